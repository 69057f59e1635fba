"""Persistence. SQL is written here and nowhere else; domain values go in and come out."""
