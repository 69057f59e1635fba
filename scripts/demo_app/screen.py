"""What the person at the screen sees: acts, steps with a spinner and their time, the commands as typed, tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

__all__ = ["Screen"]


class Screen:
    """Plain words on a rich console; without a terminal it prints the same as text."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self._started = time.monotonic()

    def act(self, title: str, text: str) -> None:
        """Open an act."""
        self.console.print()
        self.console.rule(f"[bold cyan]{title}", align="left")
        self.console.print(f"[dim]{text}")

    def command(self, words: Sequence[str]) -> None:
        """Show a command as a person would type it."""
        self.console.print(f"  [dim]$ {' '.join(words)}", markup=True, soft_wrap=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """A step: spinner while it runs, tick and seconds after."""
        start = time.monotonic()
        with self.console.status(f"{text} …"):
            yield
        self.console.print(f"  [green]✓[/] {text} [dim]{time.monotonic() - start:.1f} s")

    def fact(self, text: str) -> None:
        """One line of result."""
        self.console.print(f"    {text}")

    def text(self, text: str) -> None:
        """What a command printed, as it is."""
        self.console.print(Text.from_ansi(text.rstrip()), soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A small table."""
        table = Table(title=title, title_justify="left", header_style="bold")
        for column in columns:
            table.add_column(column)
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    def end(self, lines: Sequence[str]) -> None:
        """The closing panel."""
        body = "\n".join(lines)
        self.console.print(Panel(body, title=f"done in {time.monotonic() - self._started:.0f} s", border_style="green"))

    def failed(self, text: str) -> None:
        """The demo cannot go on."""
        self.console.print(Panel(text, title="the demo stopped", border_style="red"))
