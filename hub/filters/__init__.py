"""Filters: the language in which people say which devices they mean."""
