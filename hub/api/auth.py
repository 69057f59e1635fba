"""Who is asking. A route demands a permission (`require`), a device (`device_principal`), or either.

A person comes with `Authorization: Bearer sk_…`; a device comes with the client certificate of its TLS connection,
which the server has already checked against the device CA and handed over in the scope (`hub.api.server`).
This module has no postponed annotations: FastAPI reads those of callable objects as they are.
"""

import hashlib
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from hub.access.permissions import Permission
from hub.access.principal import DevicePrincipal, Principal
from hub.wiring import Hub
from shared.errors import Unauthorised

__all__ = [
    "Device",
    "HubDep",
    "Person",
    "RequireDevice",
    "RequireEither",
    "RequirePermission",
    "RequirePerson",
    "device_principal",
    "get_hub",
    "require",
]

_BEARER = HTTPBearer(auto_error=False, description="An API token (`sk_…`), from `skerry tokens create`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
_MODEL_PARAMETERS = ("model", "m")


def get_hub(request: Request) -> Hub:
    """The hub that this application serves."""
    hub: Hub = request.app.state.hub
    return hub


HubDep = Annotated[Hub, Depends(get_hub)]


def _person(hub: Hub, credentials: HTTPAuthorizationCredentials | None) -> Principal:
    if credentials is None:
        raise Unauthorised(
            "auth.missing",
            "This needs an API token.",
            hint="Send the header `Authorization: Bearer sk_…`; the CLI takes it from SKERRY_TOKEN.",
        )
    return hub.tokens.authenticate(credentials.credentials)


def _certificate_fingerprint(request: Request) -> str | None:
    der = request.scope.get("extensions", {}).get("tls", {}).get("client_cert_der")
    return hashlib.sha256(der).hexdigest() if isinstance(der, bytes) else None


class RequirePerson:
    """Dependency: any person with a valid token."""

    def __call__(self, request: Request, credentials: Credentials) -> Principal:
        return _person(get_hub(request), credentials)


class RequirePermission:
    """Dependency: a person whose role and scope give `permission`, also for the model that the path names."""

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    def __call__(self, request: Request, credentials: Credentials) -> Principal:
        principal = _person(get_hub(request), credentials)
        principal.check(self.permission)
        for name in _MODEL_PARAMETERS:
            if name in request.path_params:
                principal.check_model(str(request.path_params[name]))
        return principal


class RequireDevice:
    """Dependency: an active device, by its certificate."""

    def __call__(self, request: Request) -> DevicePrincipal:
        fingerprint = _certificate_fingerprint(request)
        if fingerprint is None:
            raise Unauthorised(
                "auth.no_certificate",
                "This is for devices, and the connection has no client certificate.",
                hint="Enrol the device first: `skerry-agent enrol <join string>`.",
            )
        return get_hub(request).device_auth.authenticate(fingerprint)


class RequireEither:
    """Dependency: a device, or a person with `permission`."""

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    def __call__(self, request: Request, credentials: Credentials) -> Principal | DevicePrincipal:
        hub = get_hub(request)
        fingerprint = _certificate_fingerprint(request)
        if fingerprint is not None:
            return hub.device_auth.authenticate(fingerprint)
        principal = _person(hub, credentials)
        principal.check(self.permission)
        return principal


def require(permission: Permission) -> RequirePermission:
    """The dependency that demands `permission`: `principal: Annotated[Principal, Depends(require(…))]`."""
    return RequirePermission(permission)


device_principal = RequireDevice()
Device = Annotated[DevicePrincipal, Depends(device_principal)]
Person = Annotated[Principal, Depends(RequirePerson())]
