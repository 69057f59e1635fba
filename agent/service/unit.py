"""The systemd unit of the agent. Pure: options in, text out.

Rules: one folder may be written, nothing else of the system may be seen changed; no privilege can be gained; memory is
capped, and a probed model that takes too much is killed without the agent; a hung agent is restarted by the watchdog.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from shared.profiles import Profile

__all__ = ["ACCOUNT", "UNIT_NAME", "UnitOptions", "memory_max_bytes", "render_account", "render_unit"]

UNIT_NAME = "skerry-agent.service"
ACCOUNT = "skerry"
_UPDATE_BYTES = 128 * 1024 * 1024
_SYSTEM_ONLY = """\
User={account}
Group={account}
UMask=0007
ProtectSystem=strict
ReadWritePaths={state}
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallArchitectures=native
SystemCallFilter=@system-service landlock_create_ruleset landlock_add_rule landlock_restrict_self
SystemCallErrorNumber=EPERM
"""
_UNIT = """\
[Unit]
Description=Skerry agent: runs models on this device and keeps them up to date
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
Environment=MALLOC_ARENA_MAX=2 OPENBLAS_NUM_THREADS=1 PYTHONUNBUFFERED=1
Restart=always
RestartSec=2
WatchdogSec=60
TimeoutStartSec=60
TimeoutStopSec=30
KillMode=mixed
OOMPolicy=continue
MemoryMax={memory}
TasksMax=256
NoNewPrivileges=yes
{hardening}
[Install]
WantedBy={target}
"""


class UnitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`python`: the interpreter that has the agent; `user`: a unit of a person's own systemd, with less hardening."""

    python: Path
    state: Path
    memory_max_bytes: int
    user: bool = False


def memory_max_bytes(profile: Profile) -> int:
    """The cap for the agent with all its children: a second copy of a model is probed while the first one serves."""
    return min(profile.memory_bytes, profile.agent_memory_bytes + 2 * profile.model_memory_bytes + _UPDATE_BYTES)


def render_unit(options: UnitOptions) -> str:
    """The unit file's text."""
    command = " ".join(_quoted(part) for part in (str(options.python), "-m", "agent", "--state", str(options.state)))
    hardening = (
        ""
        if options.user
        else _SYSTEM_ONLY.format(account=ACCOUNT, state=_quoted(str(options.state)), home=_home(options))
    )
    return _UNIT.format(
        command=command,
        memory=options.memory_max_bytes,
        hardening=hardening,
        target="default.target" if options.user else "multi-user.target",
    )


def _home(options: UnitOptions) -> str:
    """Homes are hidden, unless what is to be run is in one."""
    inside = str(options.python).startswith(("/home/", "/root/")) or str(options.state).startswith(("/home/", "/root/"))
    return "read-only" if inside else "yes"


def render_account(state: Path) -> str:
    """The sysusers.d(5) line that makes the account under which the agent runs."""
    return f'u {ACCOUNT} - "Skerry agent" {state} -\n'


def _quoted(text: str) -> str:
    """A word of a unit file: specifiers and quotes are told apart from text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if set(escaped) & set(" \t'\"\\;$") else escaped
