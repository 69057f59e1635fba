"""All checks, side by side, each within its deadline.

A check that raises or that does not end is itself a finding. Threads are daemons: one that hangs in the kernel (a dead
network disk, say) does not keep the command from ending.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from agent.doctor import machine, network, state
from agent.doctor.findings import Finding
from agent.doctor.subject import Check, Reporter, Subject
from shared.errors import SkerryError

__all__ = ["CHECKS", "examine"]

DEADLINE_S = 30.0
IDENTITY = "identity"
CHECKS: Mapping[str, Check] = {
    "state folder": machine.check_folder,
    "agent": machine.check_agent,
    IDENTITY: state.check_identity,
    "clock": machine.check_clock,
    "disk": machine.check_disk,
    "memory": machine.check_memory,
    "runtime": machine.check_runtime,
    "sandbox": machine.check_sandbox,
    "hub over HTTPS": network.check_https,
    "hub over MQTT": network.check_mqtt,
    "releases": state.check_releases,
    "versions": state.check_slots,
    "installations": state.check_installs,
    "outbox": state.check_outbox,
}


def examine(subject: Subject, checks: Mapping[str, Check] = CHECKS, deadline_s: float = DEADLINE_S) -> list[Finding]:
    """The findings of every check, in the order of the checks; takes `deadline_s` at the most."""
    reporters = {name: Reporter(name) for name in checks}
    threads = {
        name: threading.Thread(target=_run, args=(check, subject, reporters[name]), name=name, daemon=True)
        for name, check in checks.items()
    }
    for thread in threads.values():
        thread.start()
    ends = time.monotonic() + deadline_s
    findings: list[Finding] = []
    for name, thread in threads.items():
        thread.join(max(0.0, ends - time.monotonic()))
        reporter = reporters[name]
        if thread.is_alive():
            reporter = Reporter(name, list(reporter.findings))
            reporter.problem(
                "no_answer", f"This check did not end within {deadline_s:g} s.", "A disk or network hangs."
            )
        findings += reporter.findings
    return findings


def _run(check: Check, subject: Subject, report: Reporter) -> None:
    try:
        check(subject, report)
    except SkerryError as error:
        if error.code.startswith("identity.") and report.check != IDENTITY:
            report.note("skipped", "Not looked at, because this device's identity cannot be read.")
            return
        report.problem(error.code.replace(".", "_"), error.message, error.hint)
    except Exception as error:  # noqa: BLE001 - one check must not keep the others from being told
        report.problem("check_failed", f"{type(error).__name__}: {error}"[:300])
