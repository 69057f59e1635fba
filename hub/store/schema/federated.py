"""Federated runs, their rounds and checkpoints."""

from __future__ import annotations

__all__: list[str] = []
