"""`python -m agent`: the daemon. The command line for people is `skerry-agent` (`agent.main`), which ends up here."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agent.launch import is_lean, launch


def main(arguments: list[str]) -> int:
    """Run the daemon; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m agent", description="The Skerry agent (daemon).")
    parser.add_argument("--state", type=Path, required=True, help="the agent's folder")
    parser.add_argument("--api-port", type=int, help="loopback port of the prediction API, besides the Unix socket")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    options = parser.parse_args(arguments)
    if not is_lean():
        launch(arguments)
    from agent.daemon import start

    return start(options.state, {"api_port": options.api_port, "log_level": options.log_level})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
