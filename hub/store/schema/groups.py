"""Saved dynamic groups of devices."""

from __future__ import annotations

__all__: list[str] = []
