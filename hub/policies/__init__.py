"""Policies by which the hub acts of itself: when to train, and what becomes of an approved version."""
