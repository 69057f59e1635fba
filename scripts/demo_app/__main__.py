"""`scripts/demo`: play the acts, print the addresses, leave nothing running unless asked to.

Exit codes: 0 everything held, 1 something did not, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.demo_app.acts import ACTS
from scripts.demo_app.data import load
from scripts.demo_app.processes import Children, DemoFailed
from scripts.demo_app.screen import Screen
from scripts.demo_app.stage import PASSPHRASE, Stage
from shared import durable

_CACHE = Path(__file__).parents[2] / "demo-data"


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="The whole job on this machine, on real data.")
    parser.add_argument("--data", choices=["digits", "fashion-mnist"], default="digits", help="real data to train on")
    parser.add_argument("--keep", action="store_true", help="leave hub and devices running until Ctrl-C")
    parser.add_argument("--dir", type=Path, help="folder for everything (default: a new one in the temporary folder)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measured figures to FILE")
    return parser.parse_args(words)


def _terminated(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(words: Sequence[str]) -> int:
    """Run the demo; the exit code."""
    options = _arguments(words)
    signal.signal(signal.SIGINT, _terminated)  # a shell starts background jobs with it ignored
    signal.signal(signal.SIGTERM, _terminated)
    screen = Screen()
    folder = (options.dir or Path(tempfile.mkdtemp(prefix="skerry-demo-"))).absolute()
    if folder.exists() and any(folder.iterdir()):
        screen.failed(f"{folder} is not empty. Give a new folder with --dir.")
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with Children(folder / "logs") as children:
            stage = Stage(folder, load(options.data, _CACHE), screen, children)
            for act in ACTS:
                act.run(stage)
            if options.json:
                durable.write_file(options.json, json.dumps(stage.facts, indent=1).encode(), mode=0o644)
            screen.end(_addresses(stage, options.keep))
            if options.keep:
                children.wait()
    except DemoFailed as error:
        screen.failed(f"{error}\n\nLogs: {folder / 'logs'}")
        return 1
    except KeyboardInterrupt:
        screen.console.print("\nStopped; every process of the demo has ended.")
        return 0 if options.keep else 130
    return 0


def _addresses(stage: Stage, keep: bool) -> list[str]:
    hub = stage.folder / "hub"
    lines = [
        f"hub        {stage.url}   (API description: {stage.url}/openapi.json)",
        f"token      {hub / 'admin.token'}",
        f"CA         {hub / 'pki' / 'hub-ca.crt'}",
        f"devices    {stage.devices[0].socket} and four more",
        f"logs       {stage.folder / 'logs'}",
    ]
    if keep:
        lines += [
            "",
            "Try:",
            f"  export SKERRY_URL={stage.url} SKERRY_TOKEN=$(cat {hub / 'admin.token'})",
            f"  export SKERRY_CA={hub / 'pki' / 'hub-ca.crt'} SKERRY_PASSPHRASE='{PASSPHRASE}'",
            "  skerry status --watch",
            f"  skerry-agent status --state {stage.devices[0].state}",
            "Ctrl-C ends it all.",
        ]
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
