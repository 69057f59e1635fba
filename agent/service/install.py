"""Installing the unit: writes files and tells systemd. Needs root for the system's unit, nothing for a person's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from agent.service.unit import ACCOUNT, UNIT_NAME, UnitOptions, render_account, render_unit
from shared import durable
from shared.errors import Forbidden, Unavailable

__all__ = ["Places", "Step", "install", "plan", "places"]


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where the files go; `account` is None for a person's own unit."""

    unit: Path
    account: Path | None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A command that is run after the files are written."""

    command: list[str]


def places(*, user: bool, root: Path = Path("/"), home: Path | None = None) -> Places:
    """The places on this system."""
    if user:
        return Places(unit=(home or Path.home()) / ".config/systemd/user" / UNIT_NAME, account=None)
    return Places(unit=root / "etc/systemd/system" / UNIT_NAME, account=root / "etc/sysusers.d/skerry-agent.conf")


def plan(options: UnitOptions, where: Places) -> list[Step]:
    """The commands that follow the writing of the files."""
    steps = []
    systemctl = ["systemctl", "--user"] if options.user else ["systemctl"]
    if where.account is not None:
        steps.append(Step(command=["systemd-sysusers", str(where.account)]))
        steps.append(Step(command=["chown", "-R", f"{ACCOUNT}:{ACCOUNT}", str(options.state)]))
        steps.append(Step(command=["chmod", "0750", str(options.state)]))
    steps.append(Step(command=[*systemctl, "daemon-reload"]))
    steps.append(Step(command=[*systemctl, "enable", "--now", UNIT_NAME]))
    return steps


def install(options: UnitOptions, where: Places, run: Callable[[Sequence[str]], None] | None = None) -> list[Path]:
    """Write the files and run the plan; returns the files. Errors `service.needs_root`, `service.failed`."""
    if where.account is not None and not os.access(where.unit.parent, os.W_OK):
        raise Forbidden(
            "service.needs_root",
            "Only root may install a system service.",
            hint="Use sudo, or --user for a service of your own, or `skerry-agent service print`.",
        )
    durable.make_dir(options.state, mode=0o750)
    written = [where.unit]
    durable.make_dir(where.unit.parent, mode=0o755)
    durable.write_file(where.unit, render_unit(options).encode(), mode=0o644)
    if where.account is not None:
        durable.make_dir(where.account.parent, mode=0o755)
        durable.write_file(where.account, render_account(options.state).encode(), mode=0o644)
        written.append(where.account)
    for step in plan(options, where):
        (run or _run)(step.command)
    return written


def _run(command: Sequence[str]) -> None:
    if shutil.which(command[0]) is None:
        raise Unavailable("service.failed", f"{command[0]} is not on this system.", hint="systemd is needed.")
    done = subprocess.run(list(command), capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise Unavailable("service.failed", f"`{' '.join(command)}` failed: {done.stderr.strip()}"[:500])
