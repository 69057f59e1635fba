"""Alerts: rules as data, what becomes of a breach, whom it is told, and what people make of it."""
