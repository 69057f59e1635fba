"""Who is asking: a person with a token, or a device with a certificate."""

from __future__ import annotations

from dataclasses import dataclass

from hub.access.permissions import PERMISSIONS, SCOPED, Permission, Role
from shared.errors import Forbidden

__all__ = ["DevicePrincipal", "Principal"]


@dataclass(frozen=True, slots=True)
class Principal:
    """A person or a program that holds an API token. `models` is the token's scope; None: every model."""

    token_id: str
    name: str
    role: Role
    models: frozenset[str] | None = None

    def check(self, permission: Permission) -> None:
        """Return if the role and the scope give `permission`; else `access.denied` or `access.scope`."""
        if permission not in PERMISSIONS[self.role]:
            holders = ", ".join(role.value for role in Role if permission in PERMISSIONS[role])
            raise Forbidden(
                "access.denied",
                f"The role {self.role.value} may not do this ({permission.value}).",
                hint=f"Ask someone with one of these roles: {holders}.",
                detail={"permission": permission.value},
            )
        if self.models is not None and permission not in SCOPED:
            raise Forbidden(
                "access.scope",
                f"This token is limited to some models and may not do this ({permission.value}).",
                hint="Use a token without a model scope.",
            )

    def check_model(self, model: str) -> None:
        """Return if `model` is within the token's scope; else `access.scope`."""
        if self.models is not None and model not in self.models:
            raise Forbidden(
                "access.scope",
                f"This token does not cover the model {model!r:.80}.",
                hint=f"It covers: {', '.join(sorted(self.models)) or 'none'}.",
            )


@dataclass(frozen=True, slots=True)
class DevicePrincipal:
    """A device, known by the certificate of its connection. `fingerprint` is the SHA-256 of the certificate's DER."""

    device_id: str
    fingerprint: str

    @property
    def actor(self) -> str:
        """How the audit log names it."""
        return f"device:{self.device_id}"
