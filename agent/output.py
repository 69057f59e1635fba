"""What `skerry-agent` prints: plain lines for people or, with `--json`, JSON for programs; errors go to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from shared.errors import EXIT_CODES, SkerryError

__all__ = ["Output", "columns"]


class Output:
    """Where one command prints."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, data: Any, lines: Iterable[str]) -> None:
        """Print the result: `data` as JSON, or `lines`."""
        if self.as_json:
            sys.stdout.write(json.dumps(msgspec.to_builtins(data), indent=2, ensure_ascii=False) + "\n")
            return
        for line in lines:
            sys.stdout.write(_plain(line) + "\n")

    def error(self, error: SkerryError) -> int:
        """Print an error; returns the exit code of its family."""
        if self.as_json:
            body = {"error": msgspec.to_builtins(error.body())}
            sys.stderr.write(json.dumps(body, indent=2, ensure_ascii=False) + "\n")
        else:
            sys.stderr.write(_plain(f"Error: {error.message}") + "\n")
            if error.hint:
                sys.stderr.write(_plain(error.hint) + "\n")
            sys.stderr.write(f"[{_plain(error.code)}]\n")
        return EXIT_CODES.get(error.family, 1)


def columns(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table as lines, each column as wide as it needs."""
    cells = [list(head), *([_plain(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _plain(text: str) -> str:
    """Text without control characters, which could drive the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
