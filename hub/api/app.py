"""The HTTP application: every router, one error shape, the edge around it all.

A router module has `router`, and `BODY_LIMITS` when one of its bodies may be larger than JSON's bound. Routes without
a permission are named in `PUBLIC`, and a test walks all routes to prove it.
"""

from __future__ import annotations

from types import ModuleType

from fastapi import FastAPI

from hub.api import (
    alerts,
    artefacts,
    audit,
    deltas,
    deploy_policies,
    deployments,
    device_api,
    devices,
    documentation,
    drift,
    federated,
    gates,
    groups,
    health,
    models,
    people,
    policies,
    prometheus,
    rollouts,
    status,
    triggers,
    trust,
    versions,
)
from hub.api.edge import BodyLimits, Edge
from hub.api.errors import install_error_handlers
from hub.wiring import Hub
from shared import __version__

__all__ = ["PUBLIC", "ROUTERS", "create_app"]

ROUTERS: tuple[ModuleType, ...] = (
    health,
    people,
    devices,
    groups,
    device_api,
    artefacts,
    deltas,
    models,
    versions,
    gates,
    deployments,
    rollouts,
    deploy_policies,
    federated,
    triggers,
    policies,
    drift,
    alerts,
    prometheus,
    status,
    audit,
    trust,
    documentation,
)
"""Modules with a `router`. A part of the hub adds its own."""

PUBLIC = frozenset(
    {
        ("GET", "/v1/health"),
        ("GET", "/v1/ca.pem"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("POST", "/v1/device/enrol"),
    }
)
"""What anybody may call. Enrolment is guarded by its one-time token."""


def create_app(hub: Hub) -> FastAPI:
    """The application for one hub."""
    app = FastAPI(
        title="Skerry hub",
        version=__version__,
        summary="Registry, releases, deployments and fleet of one hub.",
        docs_url=None,  # `documentation` is ours: FastAPI's page loads its script from the Internet
        redoc_url=None,
    )
    app.state.hub = hub
    install_error_handlers(app)
    limits: list[BodyLimits] = []
    for module in ROUTERS:
        app.include_router(module.router)
        limits.append(getattr(module, "BODY_LIMITS", {}))
    app.add_middleware(Edge, limits=tuple(limits))
    return app
