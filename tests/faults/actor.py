"""`python -m tests.faults.actor FACTS SCENARIO STEP WARM ROOT…`: do one step of a scenario over each folder, in turn.

This is the process that is traced. `STEP` is `act` or `recover`; with `recover` a broken promise of one folder is
written to standard output and does not keep the others from their turn.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.faults.facts import Facts, load_facts
from tests.faults.life import Broken
from tests.faults.scenarios import SCENARIOS

__all__ = ["main"]


async def _step(facts: Facts, name: str, step: str, warm: bool, root: Path) -> None:
    scenario = SCENARIOS[name]
    if step == "act":
        await scenario.act(facts, root, warm)
        return
    try:
        await scenario.recover(facts, root, [])
    except Broken as error:
        sys.stdout.write(f"{root}: {error}\n")


def main(arguments: list[str]) -> int:
    """Do the step; 0 unless it could not be done at all."""
    facts, name, step, warm, *roots = arguments
    for root in roots:
        asyncio.run(_step(load_facts(Path(facts)), name, step, warm == "warm", Path(root)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
