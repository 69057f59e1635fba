"""How model versions do after they were installed: counters by version, profile, cohort and period."""

from __future__ import annotations

__all__: list[str] = []
