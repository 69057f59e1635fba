"""Deltas between two bundles, made once per pair."""

from __future__ import annotations

__all__: list[str] = []
