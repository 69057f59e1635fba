"""Drift windows, references, alerts and business metrics."""

from __future__ import annotations

__all__: list[str] = []
