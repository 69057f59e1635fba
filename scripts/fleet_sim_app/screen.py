"""What the person sees while it runs: steps, the fleet's figures, the waves of the rollout. Silent for programs."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scripts.fleet_sim_app.figures import Figures

__all__ = ["Screen", "Silence"]


class Silence:
    """Watches and says nothing."""

    def step(self, title: str) -> None:
        """Nothing."""

    def fleet(self, figures: Figures, devices: int) -> None:
        """Nothing."""

    def rollout(self, answer: Any) -> None:
        """Nothing."""


class Screen:
    """A live picture on a terminal; a context manager."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._live = Live(console=self.console, refresh_per_second=2, transient=True)
        self._steps: list[tuple[str, float]] = []
        self._fleet = Text("")
        self._rollout: Table | Text = Text("")

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self._close_step()
        self._live.stop()

    def step(self, title: str) -> None:
        """The step before is done; this one begins."""
        self._close_step()
        self._steps.append((title, time.monotonic()))
        self._draw()

    def fleet(self, figures: Figures, devices: int) -> None:
        """One line of figures."""
        self._fleet = Text(
            f"  {figures.connected}/{devices} sessions   {figures.published} messages up   {figures.watermarks} "
            f"confirmations   {figures.documents} documents   {figures.downloads} downloads, "
            f"{figures.downloaded_bytes / 1e6:.1f} MB   {figures.crashes} crashes"
        )
        self._draw()

    def rollout(self, answer: Any) -> None:
        """Its waves."""
        table = Table(title=f"rollout {answer['rollout_id']}: {answer['status']}", title_justify="left")
        for column in ("wave", "status", "devices", "waiting", "under way", "succeeded", "failed", "went back"):
            table.add_column(column)
        for group in answer["groups"]:
            counts = group["counts"]
            under_way = sum(counts[name] for name in ("assigned", "downloading", "staged", "installing"))
            back = counts["rolling_back"] + counts["rolled_back"]
            failed = counts["failed"] + counts["reverted"]
            numbers = (group["members"], counts["waiting"], under_way, counts["succeeded"], failed, back)
            table.add_row(group["name"], group["status"], *map(str, numbers))
        self._rollout = table
        self._draw()

    def _close_step(self) -> None:
        if self._steps:
            title, began = self._steps.pop()
            self.console.print(f"[green]✓[/] {title} [dim]{time.monotonic() - began:.1f} s")

    def _draw(self) -> None:
        title = self._steps[-1][0] if self._steps else ""
        self._live.update(Group(Text(f"… {title}", style="bold"), self._fleet, self._rollout))
