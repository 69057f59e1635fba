"""The order of software versions (agents, runtimes), as text that any database sorts. Pure.

A version is up to four numbers with dots, and at most one suffix: `1.10`, `2.3.1rc2`, `1.0.dev4`, `1.0.post1`,
`1.2-beta.1`; what follows a `+` names a build and has no order. A pre-release comes before its release.
"""

from __future__ import annotations

import re

__all__ = ["KEY_CHARS", "sort_key"]

_NUMBERS_COUNT = 4
_DIGITS = 6
_PHASES = {"dev": 0, "a": 1, "alpha": 1, "b": 2, "beta": 2, "rc": 3, "c": 3, "pre": 3, "": 4, "post": 5}
_VERSION = re.compile(
    r"v?(?P<numbers>[0-9]{1,6}(?:\.[0-9]{1,6}){0,3})"
    r"(?:[.-]?(?P<phase>dev|alpha|a|beta|b|rc|c|pre|post)[.-]?(?P<step>[0-9]{0,6}))?(?:\+[A-Za-z0-9.-]{1,64})?\Z"
)
KEY_CHARS = (_NUMBERS_COUNT + 1) * _DIGITS + 1


def sort_key(text: str) -> str | None:
    """Digits that sort as the versions do, all of one length (`KEY_CHARS`); None: this is not a version."""
    match = _VERSION.match(text)
    if match is None:
        return None
    numbers = [int(part) for part in match["numbers"].split(".")]
    numbers += [0] * (_NUMBERS_COUNT - len(numbers))
    release = "".join(f"{number:0{_DIGITS}d}" for number in numbers)
    return f"{release}{_PHASES[match['phase'] or '']}{int(match['step'] or 0):0{_DIGITS}d}"
