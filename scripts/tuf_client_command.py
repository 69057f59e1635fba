"""What `scripts/tuf_client` runs: the command of TUF's conformance tests over the agent's own update client.

Rules: every rule is `agent.ota.update_client`'s; this file only reads arguments, opens HTTP and chooses folders. What
a real device knows besides (its certificate's and its software's date) is left out, because the tests choose the time.
The exit code is 0 or 1, the reason goes to standard error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import httpx

from agent.ota.hub_source import HubSource
from agent.ota.update_client import UpdateClient, trust_root
from shared import durable, limits
from shared.clock import Clock, SystemClock
from shared.errors import InvalidInput, SkerryError

__all__ = ["main"]

_TIMEOUT_S = 10.0
_DEADLINE_S = 60.0


class _Parser(argparse.ArgumentParser):
    """Refuses with exit code 1: there is no other."""

    def error(self, message: str) -> NoReturn:
        raise InvalidInput("arguments.malformed", message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tuf_client", description="The agent's TUF client.", allow_abbrev=False)
    parser.add_argument("--metadata-dir", type=Path, required=True, help="where verified metadata is kept")
    parser.add_argument("--metadata-url", help="where the repository's metadata is")
    parser.add_argument("--target-name", action="append", default=[], help="path of a target; may be repeated")
    parser.add_argument("--target-base-url", help="where the repository's targets are")
    parser.add_argument("--target-dir", type=Path, help="where downloaded targets are kept")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init", help="trust a root; no network").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh", help="update the metadata")
    commands.add_parser("download", help="update the metadata and fetch the targets")
    return parser


class _Repository:
    """Metadata and targets below two base URLs; the latter have the prefix `targets/` here."""

    PREFIX = "targets:"

    def __init__(self, client: httpx.Client, clock: Clock, metadata_url: str, targets_url: str) -> None:
        self._metadata = HubSource(client, clock, deadline_s=_DEADLINE_S, base=_base(metadata_url))
        self._targets = HubSource(client, clock, deadline_s=_DEADLINE_S, base=_base(targets_url or metadata_url))

    def get(self, path: str, limit: int) -> bytes:
        if path.startswith(self.PREFIX):
            return self._targets.get(path.removeprefix(self.PREFIX), limit)
        return self._metadata.get(path, limit)


def _base(url: str) -> str:
    if urlsplit(url).scheme not in ("http", "https"):
        raise InvalidInput("arguments.malformed", f"{url!r:.200} is not an HTTP address.")
    return url if url.endswith("/") else f"{url}/"


def _run(arguments: argparse.Namespace, clock: Clock) -> None:
    if arguments.command == "init":
        trust_root(arguments.metadata_dir, durable.read_file(arguments.trusted_root, limit=limits.MAX_ROOT_BYTES))
        return
    downloads = arguments.command == "download"
    if downloads and not (arguments.target_name and arguments.target_base_url and arguments.target_dir):
        raise InvalidInput("arguments.malformed", "download needs --target-name, --target-base-url and --target-dir.")
    timeout = httpx.Timeout(_TIMEOUT_S)
    with httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False) as client:
        source = _Repository(client, clock, arguments.metadata_url or "", arguments.target_base_url or "")
        updater = UpdateClient(arguments.metadata_dir, source, clock, targets_prefix=_Repository.PREFIX)
        updater.refresh()
        for name in arguments.target_name if downloads else ():
            durable.make_dir(arguments.target_dir)
            updater.fetch_target(name, arguments.target_dir, limits.MAX_BUNDLE_BYTES)


def main(argv: Sequence[str], clock: Clock | None = None) -> int:
    """Run one command; its exit code."""
    try:
        _run(_parser().parse_args(argv), clock or SystemClock())
    except (SkerryError, OSError) as error:
        print(f"tuf_client: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
