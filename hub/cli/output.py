"""What a command prints: a table for people or, with `--json`, the hub's answer for programs; never a mixture.

Results go to standard output; notes, progress and errors go to standard error. Text that came from elsewhere is never
read as markup and never reaches the terminal with control characters.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from hub.cli.text import plain, style_of
from shared.errors import EXIT_CODES, SkerryError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["Output", "fields_table", "rows_table"]

_STATE_COLUMNS = frozenset({"state", "status", "result", "online"})


def _console(to_errors: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if to_errors else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 160
    return Console(file=stream, width=width, highlight=False, markup=False)


def rows_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Table:
    """A table with one line per row; state columns are coloured, numbers stand to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    cells = [list(row) for row in rows]
    for index, name in enumerate(columns):
        numeric = bool(cells) and all(isinstance(row[index], int | float) for row in cells)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(
            *(
                Text(plain(cell), style=style_of(plain(cell)) if columns[at].lower() in _STATE_COLUMNS else "")
                for at, cell in enumerate(row)
            )
        )
    return table


def fields_table(fields: Iterable[tuple[str, object]]) -> Table:
    """A table with one line per named value."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        table.add_row(name, Text(plain(value), style=style_of(plain(value)) if name.lower() in _STATE_COLUMNS else ""))
    return table


class Output:
    """Where one command prints. `as_json`: results are JSON, and notes are silent."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, data: Any, *views: object | Callable[[], object]) -> None:
        """Print the result: `data` as JSON, or the views (tables, text, or functions that make them) for people."""
        if self.as_json:
            print(json.dumps(msgspec.to_builtins(data), indent=2, ensure_ascii=not _speaks_utf8()))
            return
        console = _console(to_errors=False)
        for view in views:
            made = view() if callable(view) else view
            if isinstance(made, str):
                console.print(plain(made), soft_wrap=True)  # a line may be for copying: never cut it
            else:
                console.print(made)

    def rows(self, data: Any, columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
        """Print a list: as JSON, as a table, or the sentence `empty` when there is nothing."""
        cells = list(rows)
        self.result(data, (lambda: rows_table(columns, cells)) if cells else empty)

    def note(self, text: str) -> None:
        """Tell people what happens; silent with `--json`."""
        if not self.as_json:
            _console(to_errors=True).print(plain(text), soft_wrap=True)

    def shown(self, view: object) -> None:
        """Show people something before a question; on standard error, silent with `--json`."""
        if not self.as_json:
            _console(to_errors=True).print(plain(view) if isinstance(view, str) else view)

    def warn(self, text: str) -> None:
        """Tell people what they should look at; on standard error, with `--json` too."""
        _console(to_errors=True).print(f"Warning: {plain(text)}", style="yellow", soft_wrap=True)

    def error(self, error: SkerryError) -> int:
        """Print an error and return the exit code of its family."""
        if self.as_json:
            body = {"error": msgspec.to_builtins(error.body())}
            print(json.dumps(body, indent=2, ensure_ascii=not _speaks_utf8()), file=sys.stderr)
        else:
            console = _console(to_errors=True)
            console.print(f"Error: {plain(error.message)}", style="bold red", soft_wrap=True)
            if error.hint:
                console.print(plain(error.hint), soft_wrap=True)
            request = error.detail.get("request_id")
            console.print(
                f"[{plain(error.code)}]" + (f" request {plain(request)}" if request else ""),
                style="dim",
                soft_wrap=True,
            )
        return EXIT_CODES.get(error.family, 1)

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A progress bar over bytes, on a terminal; else nothing. Gives the function to call with (done, total)."""
        if self.as_json or not sys.stderr.isatty():
            yield lambda _done, _total: None
            return
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=_console(to_errors=True), transient=True) as bar:
            task = bar.add_task(plain(what), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total or None)


def _speaks_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
