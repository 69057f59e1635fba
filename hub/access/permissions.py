"""Roles and permissions as one table. A route demands one permission; a role is a set of them.

A token's scope (a list of models) narrows its role: a route whose path names another model is refused, and so is every
change that is not about one model. Reading the fleet stays possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from shared.errors import InvalidInput

__all__ = ["PERMISSIONS", "SCOPED", "Permission", "Role", "parse_role"]


class Permission(StrEnum):
    """What a route may demand."""

    ALERTS_MANAGE = "alerts.manage"
    AUDIT_READ = "audit.read"
    DEPLOYMENTS_CREATE = "deployments.create"
    DEPLOYMENTS_READ = "deployments.read"
    DEVICES_ENROL = "devices.enrol"
    DEVICES_READ = "devices.read"
    DEVICES_REVOKE = "devices.revoke"
    DEVICES_TAG = "devices.tag"
    FEDERATED_MANAGE = "federated.manage"
    FEDERATED_READ = "federated.read"
    GC_RUN = "gc.run"
    GROUPS_MANAGE = "groups.manage"
    MODELS_CREATE = "models.create"
    MODELS_READ = "models.read"
    MODELS_UPDATE = "models.update"
    MONITORING_READ = "monitoring.read"
    RELEASES_SIGN = "releases.sign"
    RELEASES_STAGE = "releases.stage"
    ROLLOUTS_MANAGE = "rollouts.manage"
    ROLLOUTS_READ = "rollouts.read"
    STATUS_READ = "status.read"
    TOKENS_MANAGE = "tokens.manage"
    TRUST_ADMIN = "trust.admin"
    TRUST_READ = "trust.read"
    VERSIONS_GATE = "versions.gate"
    VERSIONS_PROMOTE = "versions.promote"
    VERSIONS_REGISTER = "versions.register"


class Role(StrEnum):
    """What a person is."""

    VIEWER = "viewer"
    DATA_SCIENTIST = "data_scientist"
    OPERATOR = "operator"
    REVIEWER = "reviewer"
    ADMIN = "admin"


_READ = frozenset(
    {
        Permission.DEPLOYMENTS_READ,
        Permission.DEVICES_READ,
        Permission.FEDERATED_READ,
        Permission.MODELS_READ,
        Permission.MONITORING_READ,
        Permission.ROLLOUTS_READ,
        Permission.STATUS_READ,
        Permission.TRUST_READ,
    }
)

PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    Role.VIEWER: _READ,
    Role.DATA_SCIENTIST: _READ
    | {
        Permission.FEDERATED_MANAGE,
        Permission.MODELS_CREATE,
        Permission.MODELS_UPDATE,
        Permission.RELEASES_STAGE,
        Permission.VERSIONS_GATE,
        Permission.VERSIONS_REGISTER,
    },
    Role.OPERATOR: _READ
    | {
        Permission.ALERTS_MANAGE,
        Permission.AUDIT_READ,
        Permission.DEPLOYMENTS_CREATE,
        Permission.DEVICES_ENROL,
        Permission.DEVICES_REVOKE,
        Permission.DEVICES_TAG,
        Permission.FEDERATED_MANAGE,
        Permission.GROUPS_MANAGE,
        Permission.ROLLOUTS_MANAGE,
        Permission.VERSIONS_PROMOTE,
    },
    Role.REVIEWER: _READ
    | {
        Permission.AUDIT_READ,
        Permission.RELEASES_SIGN,
        Permission.RELEASES_STAGE,
        Permission.VERSIONS_GATE,
        Permission.VERSIONS_PROMOTE,
    },
    Role.ADMIN: frozenset(Permission),
}

SCOPED: frozenset[Permission] = _READ | {
    Permission.DEPLOYMENTS_CREATE,
    Permission.FEDERATED_MANAGE,
    Permission.MODELS_UPDATE,
    Permission.RELEASES_SIGN,
    Permission.RELEASES_STAGE,
    Permission.ROLLOUTS_MANAGE,
    Permission.VERSIONS_GATE,
    Permission.VERSIONS_PROMOTE,
    Permission.VERSIONS_REGISTER,
}
"""What a token with a scope may still do: reads, and changes whose service checks the model (`check_model`)."""


def parse_role(text: str) -> Role:
    """A role by its name, or `InvalidInput` (`access.role`)."""
    try:
        return Role(text)
    except ValueError as error:
        names = ", ".join(role.value for role in Role)
        raise InvalidInput("access.role", f"{text!r:.80} is not a role.", hint=f"Roles: {names}.") from error
