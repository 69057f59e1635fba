"""Flower's server application without the parts that no device needs.

Flower puts all its APIs into one application: each request of a node would pass six layers of the Control and Runtime
APIs, each with a task of its own, and be compared with all their routes. What is not there costs nothing, and cannot
be reached by a path that the guard (`hub.federated.flower.guard`) misjudges.
"""

from __future__ import annotations

from hub.federated.flower.quiet import silence

silence()

from fastapi import FastAPI  # noqa: E402
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware  # noqa: E402
from flwr.supercore.routers import health  # noqa: E402
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan  # noqa: E402
from flwr.superlink.config_loader import SuperLinkLifespanConfig  # noqa: E402
from flwr.superlink.main import create_app  # noqa: E402
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware  # noqa: E402
from flwr.superlink.routers.fleet.router import router as fleet_router  # noqa: E402
from starlette.middleware.base import BaseHTTPMiddleware  # noqa: E402

__all__ = ["fleet_app"]

_NEEDED: tuple[object, ...] = (BaseHTTPMiddleware, ProtobufTranslationMiddleware, NodeAuthMiddleware)
"""What turns errors into answers, reads the messages, and checks the nodes' signatures; in Flower's order."""


def fleet_app(config: SuperLinkLifespanConfig) -> FastAPI:
    """The application with the fleet API and the health check; error `RuntimeError` when Flower's was changed."""
    app = create_app(config, SuperLinkLifespan)
    kept = [layer for layer in app.user_middleware if layer.cls in _NEEDED]
    found: list[object] = [layer.cls for layer in kept]
    if found != list(_NEEDED):
        raise RuntimeError("this version of Flower checks its nodes in another way; hub.federated.flower must learn it")
    app.user_middleware[:] = kept
    app.router.routes.clear()
    app.include_router(health.router)
    app.include_router(fleet_router)
    return app
