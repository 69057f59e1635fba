"""Saved groups of devices."""
