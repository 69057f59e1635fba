"""What becomes of a model's versions once they are approved, as people write it: nothing, or a rollout. Pure.

The template is a rollout's definition without model and version, and without times, because it is used again and
again. It is checked as any rollout when the policy is made. Errors: `policy.invalid` (names the field).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hub.policies.fields import document, invalid, recoded, struct
from hub.rollouts.definition import definition_of
from hub.rollouts.plan import Plan
from hub.rollouts.planning import plan_of
from shared import canonical, limits

__all__ = ["DeployPolicy", "deploy_policy_of", "from_store", "parse_deploy_policy", "stored_deploy_policy"]

Action = Literal["nothing", "rollout"]
Origin = Literal["runs", "any"]
_OURS = ("model", "version", "start_at", "end_at", "at_end")


class DeployPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """All of it; docs/retraining.md is the reference. of: versions that a training run made, or any."""

    schema_version: Literal[1] = 1
    action: Action = "nothing"
    of: Origin = "runs"
    rollout: dict[str, Any] = {}
    note: Annotated[str, Meta(max_length=limits.MAX_REASON_CHARS)] = ""

    def definition(self, model: str, version: int) -> bytes:
        """The rollout of a version, as a document."""
        return canonical.dumps({"note": self.note, **self.rollout, "model": model, "version": version})

    def plan(self, model: str, version: int) -> Plan:
        """What that rollout would do."""
        return recoded("rollout", lambda: plan_of(definition_of(document(self.definition(model, version)))))


_WORDS = {"action": ("nothing", "rollout"), "of": ("runs", "any")}


def parse_deploy_policy(data: bytes, model: str) -> DeployPolicy:
    """The policy of a model from the bytes of a YAML or JSON document."""
    return deploy_policy_of(document(data), model)


def deploy_policy_of(values: Any, model: str) -> DeployPolicy:
    """The policy of a model from plain values, checked as a whole."""
    policy = struct(values, DeployPolicy, (DeployPolicy,), _WORDS)
    for name in _OURS:
        if name in policy.rollout:
            raise invalid(f"rollout.{name}", "a template has none", "Each approved version gets its own rollout.")
    if policy.action == "rollout" or policy.rollout:
        policy.plan(model, 1)
    return policy


def stored_deploy_policy(policy: DeployPolicy) -> str:
    """The policy as it is kept: canonical JSON, without what is the default."""
    return canonical.dumps(policy).decode()


@lru_cache(maxsize=512)
def from_store(text: str) -> DeployPolicy:
    """A policy that was checked when it was kept."""
    return msgspec.json.decode(text, type=DeployPolicy)
