"""What msgspec says about a document, in the words of who wrote it: the field first, then what is wrong. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["FieldProblem", "describe", "joined"]

_AT = re.compile(r"(?P<problem>.*?)(?: - at (?:`key` in )?`\$\.?(?P<path>.*)`)?\Z", re.DOTALL)
_LACKS = re.compile(r"Object missing required field `(?P<name>\w+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`")


class FieldProblem(NamedTuple):
    """field: its path in the document, empty: the document itself. missing: it is not there at all."""

    field: str
    problem: str
    hint: str = ""
    missing: bool = False


def describe(
    text: str, known: Iterable[str], words: Mapping[str, Iterable[str]] | None = None, *, reference: str = ""
) -> FieldProblem:
    """The problem in a message of `msgspec.ValidationError`.

    known: the names of all fields, from which the nearest is suggested. words: what a field by its last name may be.
    reference: what to say when no name is near.
    """
    found = _AT.match(text)
    problem, path = (found["problem"], found["path"] or "") if found else (text, "")
    lacks, unknown = _LACKS.match(problem), _UNKNOWN.match(problem)
    if lacks:
        return FieldProblem(joined(path, lacks["name"]), "it is missing", missing=True)
    if unknown:
        near = difflib.get_close_matches(unknown["name"], sorted(set(known)), n=1)
        hint = f"Did you mean {near[0]}?" if near else reference
        return FieldProblem(joined(path, unknown["name"])[:120], "there is no such field", hint)
    kinds = (words or {}).get(path.rpartition(".")[2]) if "enum" in problem else None
    hint = f"One of {', '.join(kinds)}." if kinds else ""
    return FieldProblem(path, problem[:1].lower() + problem[1:200].rstrip("."), hint)


def joined(path: str, name: str) -> str:
    """The path of a field below another."""
    return f"{path}.{name}" if path and not name.startswith("[") else path + name
