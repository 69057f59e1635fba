"""Every route demands something, or is named as public. A route that somebody adds is found here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from hub.access.permissions import PERMISSIONS, SCOPED, Permission, Role
from hub.api.app import PUBLIC, ROUTERS, create_app
from hub.api.auth import RequireDevice, RequireEither, RequirePermission, RequirePerson
from tests.hub_kit import HubKit, data_hub

GUARDS = (RequireDevice, RequireEither, RequirePermission, RequirePerson)


def routes() -> Iterator[tuple[str, APIRoute]]:
    for module in ROUTERS:
        for route in module.router.routes:
            assert isinstance(route, APIRoute), f"{module.__name__} has a route that is not FastAPI's"
            for method in sorted(route.methods or ()):
                yield method, route


def guards(dependant: Dependant) -> Iterator[object]:
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, GUARDS):
            yield dependency.call
        yield from guards(dependency)


@pytest.fixture(scope="module")
def strangers(shared_kit: HubKit) -> dict[str, httpx.Client]:
    return {"nobody": shared_kit.client(), "unknown": shared_kit.client("sk_" + "A" * 43)}


@pytest.fixture(scope="module")
def people(shared_kit: HubKit) -> dict[Role, httpx.Client]:
    return {role: shared_kit.person(role) for role in Role}


ALL = [pytest.param(method, route, id=f"{method} {route.path}") for method, route in routes()]


@pytest.mark.parametrize(("method", "route"), ALL)
def test_a_route_has_one_guard_or_is_public(method: str, route: APIRoute) -> None:
    found = list(guards(route.dependant))
    assert len(found) == (0 if (method, route.path) in PUBLIC else 1)


def test_nothing_is_served_besides_the_routers(tmp_path: Path) -> None:
    with data_hub(tmp_path, trust=False) as (hub, _clock):
        described = create_app(hub).openapi()["paths"]
    served = {(method.upper(), path) for path, methods in described.items() for method in methods}
    described_by_itself = {("GET", "/openapi.json"), ("GET", "/docs")}
    assert served == {(method, route.path) for method, route in routes()} - described_by_itself
    assert PUBLIC - described_by_itself <= served


@pytest.mark.parametrize(("method", "route"), ALL)
def test_a_route_refuses_strangers_over_the_wire(
    strangers: dict[str, httpx.Client], method: str, route: APIRoute
) -> None:
    if (method, route.path) in PUBLIC:
        return
    path = route.path_format.format(**dict.fromkeys(route.param_convertors, "1"))
    answer = strangers["nobody"].request(method, path)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] in ("auth.missing", "auth.no_certificate")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    answer = strangers["unknown"].request(method, path)
    assert answer.status_code == 401


@pytest.mark.parametrize(("method", "route"), ALL)
def test_a_route_refuses_roles_without_its_permission(
    people: dict[Role, httpx.Client], method: str, route: APIRoute
) -> None:
    for guard in guards(route.dependant):
        if not isinstance(guard, RequirePermission | RequireEither):
            continue
        path = route.path_format.format(**dict.fromkeys(route.param_convertors, "1"))
        for role in Role:
            if guard.permission not in PERMISSIONS[role]:
                answer = people[role].request(method, path)
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "access.denied")
                break


def test_every_permission_is_used_and_only_administrators_have_all() -> None:
    assert PERMISSIONS[Role.ADMIN] == frozenset(Permission)
    assert all(PERMISSIONS[role] < frozenset(Permission) for role in Role if role is not Role.ADMIN)
    assert set(PERMISSIONS) == set(Role)
    assert frozenset(Permission) >= SCOPED


def test_a_viewer_can_change_nothing() -> None:
    assert all(permission.value.endswith(".read") for permission in PERMISSIONS[Role.VIEWER])


def test_only_reviewers_and_administrators_sign() -> None:
    assert {role for role in Role if Permission.RELEASES_SIGN in PERMISSIONS[role]} == {Role.REVIEWER, Role.ADMIN}
