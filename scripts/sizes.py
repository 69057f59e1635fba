"""Keep rooms small: a file stays under 400 lines, a function under 50, and a module says what it is for.

Prints each offence as `path:line: message` and exits with 1 when there is one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["offences"]

ROOTS = ("agent", "firmware_profiles", "hub", "scripts", "shared", "tests")
MAX_FILE_LINES = 399
MAX_FUNCTION_LINES = 49


def offences(source: str) -> Iterator[tuple[int, str]]:
    """(line, message) for everything in one module's source that is too long or has no docstring."""
    lines = source.count("\n") + (not source.endswith("\n"))
    if lines > MAX_FILE_LINES:
        yield 1, f"the file has {lines} lines; at most {MAX_FILE_LINES}"
    tree = ast.parse(source)
    if tree.body and ast.get_docstring(tree) is None:
        yield 1, "the module has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {length} lines; at most {MAX_FUNCTION_LINES}"


def main(base: Path) -> int:
    """Check all Python files below the roots of `base`; the exit code."""
    found = 0
    for root in ROOTS:
        for path in sorted((base / root).rglob("*.py")):
            for line, message in offences(path.read_text()):
                found += 1
                print(f"{path.relative_to(base)}:{line}: {message}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent.parent))
