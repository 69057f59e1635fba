"""The machine: the folder, the disk, the clock, the memory, the runtime, the sandbox, the agent's process."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from agent.doctor.subject import Reporter, Subject
from agent.local_client import LocalAgent
from agent.ota.children import command, environment
from agent.ota.metadata_store import read_floor
from agent.ota.trusted_time import RELEASED_S
from agent.telemetry.process import disk_bytes, memory_bytes
from shared import limits
from shared.errors import SkerryError
from shared.sandbox.trial import Trial
from shared.sandbox.wish import Confinement

__all__ = ["check_agent", "check_clock", "check_disk", "check_folder", "check_memory", "check_runtime", "check_sandbox"]

_TRIAL_S = 20.0
_SOCKET_S = 5.0
_SLACK_S = 300.0
_SMALLER = 0.8


def check_folder(subject: Subject, report: Reporter) -> None:
    """The state folder is there, ours, and closed to others."""
    root = subject.paths.root
    if not root.is_dir():
        report.problem("folder_missing", f"There is no folder {root}.", "Enrol this device with `skerry-agent enrol`.")
        return
    for path in (root, subject.paths.identity, subject.paths.models, subject.paths.tuf):
        if not path.exists():
            continue
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            report.problem(
                "folder_access", f"You may not read and write {path}.", "Use sudo, or the account that runs the agent."
            )
            return
        mode = path.stat().st_mode
        if stat.S_IMODE(mode) & 0o022:
            report.warn("folder_open", f"Others may write in {path}.", f"chmod go-w {path}")
    owners = {path.stat().st_uid for path in (root, subject.paths.identity, subject.paths.models) if path.exists()}
    if len(owners) > 1:
        report.problem(
            "folder_owner",
            f"Parts of {root} belong to different accounts.",
            f"Give all of it to the account that runs the agent: chown -R ACCOUNT {root}",
        )
    if not report.findings:
        report.fine(f"{root} can be used.")


def check_disk(subject: Subject, report: Reporter) -> None:
    """There is the room that the profile keeps free."""
    profile = subject.profile
    free, total = disk_bytes(subject.paths.root)
    if free < profile.min_free_bytes:
        report.problem(
            "disk_full",
            f"{_mib(free)} are free; {profile.name} keeps {_mib(profile.min_free_bytes)} free, so nothing installs.",
            "Free some space on this file system.",
        )
    elif total < profile.storage_bytes:
        report.warn(
            "disk_small",
            f"The disk has {_mib(total)}; {profile.name} counts on {_mib(profile.storage_bytes)} for models alone.",
            "Choose a firmware profile that fits this device.",
        )
    else:
        report.fine(f"{_mib(free)} are free of {_mib(total)}.")


def check_clock(subject: Subject, report: Reporter) -> None:
    """The clock is not before what this device knows to have passed."""
    now_s = subject.clock.now()
    least_s, why = RELEASED_S, "this software was made"
    floor = read_floor(subject.paths.tuf)
    if floor.verified_s > least_s:
        least_s, why = floor.verified_s, "the hub's metadata was last verified"
    with contextlib.suppress(SkerryError):  # what is wrong with the identity is another check's finding
        made_s = subject.store.validity().not_before_s
        if made_s > least_s:
            least_s, why = made_s, "this device's certificate was made"
    if now_s < least_s - _SLACK_S:
        report.problem(
            "clock_behind",
            f"The clock says {_date(now_s)}, which is before {why} ({_date(least_s)}).",
            "Set the clock, and let it be kept by NTP (`timedatectl set-ntp true`) or a real-time clock.",
        )
        return
    report.fine(f"The clock says {_date(now_s)}.")


def check_memory(subject: Subject, report: Reporter) -> None:
    """The machine has the memory that its profile promises, and enough of it is free."""
    profile, total = subject.profile, memory_bytes()
    if total < _SMALLER * profile.memory_bytes:
        report.warn(
            "memory_small",
            f"This machine has {_mib(total)} of memory; {profile.name} promises {_mib(profile.memory_bytes)}.",
            "Enrol it with the firmware profile that fits.",
        )
    available = _available_bytes()
    if available < profile.model_memory_bytes:
        report.warn(
            "memory_short",
            f"{_mib(available)} of memory are available; trying a new version may take "
            f"{_mib(profile.model_memory_bytes)}.",
            "See what else runs on this device.",
        )
    if not report.findings:
        report.fine(f"{_mib(available)} of {_mib(total)} are available.")


def check_runtime(subject: Subject, report: Reporter) -> None:
    """The TFLite runtime loads and is new enough."""
    code = "from shared.runtime.interpreter import RUNTIME_NAME, RUNTIME_VERSION; print(RUNTIME_NAME, RUNTIME_VERSION)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=_TRIAL_S,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        report.problem(
            "runtime_missing", f"The TFLite runtime does not load: {last[:200]}", "pip install skerry[agent]"
        )
        return
    name, version = done.stdout.split()
    wanted = subject.profile.runtime.min_version
    if _version(version) < _version(wanted):
        report.problem(
            "runtime_old",
            f"{name} {version} is older than {wanted}, which the profile asks for.",
            f"pip install -U {name}",
        )
        return
    report.fine(f"{name} {version} loads.")


def check_sandbox(subject: Subject, report: Reporter) -> None:
    """What a confined child can really do here, by trying it."""
    wish = Confinement(user=subject.settings.ota.sandbox_user)
    done = subprocess.run(
        command("shared.sandbox.trial"),
        input=msgspec.json.encode(wish),
        capture_output=True,
        env=environment(),
        timeout=_TRIAL_S,
        check=False,
    )
    try:
        trial = msgspec.json.decode(done.stdout, type=Trial)
    except msgspec.DecodeError:
        report.problem(
            "sandbox_failed", "The trial of the sandbox gave no answer.", "See `journalctl -u skerry-agent`."
        )
        return
    for missing in trial.shortfalls:
        report.warn(
            f"sandbox_{missing.part.replace(' ', '_')}",
            f"New versions are tried without a part of the sandbox ({missing.part}): {missing.reason}.",
            "A newer kernel with Landlock and seccomp gives it.",
        )
    if trial.possible:
        report.warn("sandbox_open", f"A new version that is being tried could {', '.join(trial.possible)}.")
    if not report.findings:
        report.fine("New versions are tried without network, other files, other processes or privileges.")


def check_agent(subject: Subject, report: Reporter) -> None:
    """The daemon runs and answers."""
    subject.settings  # noqa: B018 - raises what keeps the daemon from starting
    try:
        with LocalAgent(subject.paths.socket, timeout_s=_SOCKET_S) as agent:
            status = agent.get("/skerry/status")
    except SkerryError as error:
        level = report.problem if error.code != "agent.no_access" else report.warn
        level(error.code.replace(".", "_"), error.message, error.hint)
        return
    report.fine(f"The agent {status['agent_version']} runs since {status['uptime_s']} s and answers.")


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return memory_bytes()


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())


def _mib(size: int) -> str:
    return f"{size / limits.MIB:.0f} MiB"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
