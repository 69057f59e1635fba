"""Policies: when a model is trained, and what becomes of an approved version."""
