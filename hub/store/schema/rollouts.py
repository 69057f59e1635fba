"""Rollouts: their definitions, their targets, and the evidence of their gates."""

from __future__ import annotations

__all__: list[str] = []
