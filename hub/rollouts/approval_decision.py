"""Whether an approved version is rolled out by its model's policy, and why. Pure.

Rules: only what is approved now and passed its newest gate run; only what is newer than everything that runs or is
being rolled out, so that nothing goes backwards by itself. It is decided here whether to ask for a rollout; whether
the signatures suffice is asked again, of the signed metadata, by whoever makes it.
"""

from __future__ import annotations

import msgspec

from hub.rollouts.approval_policy import DeployPolicy

__all__ = ["Candidate", "Choice", "Running", "choose"]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A version. run: the training run that made it, empty: none. gate_passed None: no gate run is known."""

    version: int
    status: str
    available: bool
    run: str
    gate_passed: bool | None


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """The newest version that an active device serves, and the newest of a rollout that goes on. 0: none."""

    served: int = 0
    rolling_out: int = 0


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """code: why not, empty when it is deployed. reason: one sentence."""

    deploys: bool
    code: str
    reason: str


def choose(policy: DeployPolicy, candidate: Candidate, running: Running) -> Choice:
    """What becomes of a version that is approved."""
    code, why = _objection(policy, candidate, running)
    if code:
        return Choice(deploys=False, code=code, reason=f"would not deploy version {candidate.version} because {why}")
    made = f"the run {candidate.run} made it" if candidate.run else "the policy takes any version"
    reason = f"would deploy version {candidate.version} because it is approved, passed its gate, and {made}"
    return Choice(deploys=True, code="", reason=reason)


def _objection(policy: DeployPolicy, candidate: Candidate, running: Running) -> tuple[str, str]:
    if policy.action == "nothing":
        return "nothing_wanted", "the policy does nothing"
    if candidate.status != "approved":
        return "not_approved", f"it is {candidate.status}: a release needs its signatures"
    if candidate.gate_passed is not True:
        told = "no gate run of it is known" if candidate.gate_passed is None else "its newest gate run failed"
        return "gate_not_passed", told
    if not candidate.available:
        return "collected", "its bundle is gone"
    if policy.of == "runs" and not candidate.run:
        return "not_of_a_run", "no training run made it"
    if candidate.version <= running.served:
        return "not_newer", f"devices serve version {running.served}"
    if candidate.version <= running.rolling_out:
        return "not_newer", f"version {running.rolling_out} is being rolled out"
    return "", ""
