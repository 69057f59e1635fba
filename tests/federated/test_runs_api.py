"""Who may do what with federated runs, over the real HTTPS API."""

from __future__ import annotations

import httpx
import pytest

from hub.access.permissions import Role
from tests.hub_fixtures import shared_kit
from tests.hub_kit import HubKit

__all__ = ["shared_kit"]

RUN = "model: digits\n"


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["error"]["code"])


@pytest.mark.parametrize("role", [Role.VIEWER, Role.REVIEWER])
def test_who_only_looks_or_signs_may_not_begin_or_end_runs(shared_kit: HubKit, role: Role) -> None:
    person = shared_kit.person(role)
    assert person.get("/v1/federated/runs").json() == {"items": [], "next": None}
    assert code(person.post("/v1/federated/runs", content=RUN)) == (403, "access.denied")
    for command in ("cancel", "resume"):
        answer = person.post(f"/v1/federated/runs/f-000000000000/{command}", json={})
        assert code(answer) == (403, "access.denied")


@pytest.mark.parametrize("role", [Role.DATA_SCIENTIST, Role.OPERATOR, Role.ADMIN])
def test_data_scientists_and_operators_may(shared_kit: HubKit, role: Role) -> None:
    person = shared_kit.person(role)
    assert code(person.post("/v1/federated/runs", content=RUN)) == (404, "model.unknown")
    answer = person.post("/v1/federated/runs/f-000000000000/cancel", json={})
    assert code(answer) == (404, "federated.unknown")


def test_a_token_for_other_models_begins_no_run(shared_kit: HubKit) -> None:
    person = shared_kit.person(Role.DATA_SCIENTIST, ["faces"])
    assert code(person.post("/v1/federated/runs?dry_run=true", content=RUN)) == (403, "access.scope")


def test_a_definition_with_a_misspelt_field_is_refused_with_its_name(shared_kit: HubKit) -> None:
    answer = shared_kit.admin.post("/v1/federated/runs", content="model: digits\nround: {}\n")
    assert code(answer) == (400, "federated.invalid")
    assert "round" in answer.json()["error"]["message"]


def test_a_device_has_no_business_with_runs(shared_kit: HubKit) -> None:
    device = shared_kit.enrol("cam-1")
    assert device.client.get("/v1/federated/runs").status_code == 401
