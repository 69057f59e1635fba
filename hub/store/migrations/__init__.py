"""Alembic's environment and the migrations: forward only, each one never edited after a release."""
