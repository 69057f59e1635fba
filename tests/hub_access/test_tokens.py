"""API tokens: what they give, when they end, what is kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.access.permissions import Role
from hub.access.tokens import DAY_S
from shared.errors import Forbidden
from tests.hub_kit import HubKit, data_hub


def code_of(kit: HubKit, token: str) -> str:
    answer = kit.client(token).get("/v1/whoami")
    return "" if answer.status_code == 200 else str(answer.json()["error"]["code"])


def test_a_token_says_who_holds_it(kit: HubKit) -> None:
    made = kit.admin.post("/v1/tokens", json={"name": "alice", "role": "operator", "models": ["digits"], "days": 1})
    assert made.status_code == 201
    who = kit.client(made.json()["token"]).get("/v1/whoami").json()
    assert (who["name"], who["role"], who["models"]) == ("alice", "operator", ["digits"])
    assert "deployments.create" in who["permissions"]
    assert who["token_id"] == made.json()["details"]["token_id"]


def test_a_revoked_token_fails_at_the_next_request_on_the_same_connection(kit: HubKit) -> None:
    made = kit.admin.post("/v1/tokens", json={"name": "bob", "role": "viewer"}).json()
    client = kit.client(made["token"])
    assert client.get("/v1/devices").status_code == 200
    assert kit.admin.delete(f"/v1/tokens/{made['details']['token_id']}").status_code == 200
    answer = client.get("/v1/devices")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "auth.revoked_token")


def test_an_expired_token_fails(kit: HubKit) -> None:
    token = kit.token(Role.VIEWER)
    assert code_of(kit, token) == ""
    kit.clock.ahead_s += DAY_S
    assert code_of(kit, token) == "auth.expired_token"


@pytest.mark.parametrize("token", ["x", "sk_", "sk_" + "x" * 43, "x" * 5000, "ske_" + "x" * 43])
def test_an_unknown_token_fails(shared_kit: HubKit, token: str) -> None:
    assert code_of(shared_kit, token) == "auth.unknown_token"


def test_secrets_are_not_in_the_database_files(tmp_path: Path) -> None:
    with data_hub(tmp_path, trust=False) as (hub, _clock):
        secret = hub.tokens.create(actor="test", name="x", role=Role.VIEWER, days=1).secret
        stored = b"".join(path.read_bytes() for path in hub.settings.data_path.glob("hub.db*"))
        assert hub.tokens.authenticate(secret).name == "x"
        admin = hub.settings.admin_token_path
        assert admin.stat().st_mode & 0o777 == 0o600
        assert secret.encode() not in stored
        assert admin.read_bytes().strip() not in stored


def test_a_scoped_token_is_held_to_its_models(tmp_path: Path) -> None:
    with data_hub(tmp_path, trust=False) as (hub, _clock):
        made = hub.tokens.create(actor="test", name="x", role=Role.OPERATOR, days=1, models=["digits"])
        principal = hub.tokens.authenticate(made.secret)
    principal.check_model("digits")
    for model in ("faces", ""):
        with pytest.raises(Forbidden) as caught:
            principal.check_model(model)
        assert caught.value.code == "access.scope"


def test_a_scoped_token_cannot_change_what_is_not_about_a_model(kit: HubKit) -> None:
    client = kit.person(Role.OPERATOR, models=["digits"])
    assert client.get("/v1/devices").status_code == 200
    answer = client.post("/v1/enrolment-tokens", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "access.scope")


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"role": "king"}, "access.role"),
        ({"name": ""}, "access.name"),
        ({"name": "hub"}, "access.name"),
        ({"name": "device:pi-1"}, "access.name"),
        ({"name": "x" * 64}, "access.name"),
        ({"days": 0}, "access.days"),
        ({"days": 4000}, "access.days"),
        ({"models": ["../x"]}, "id.model"),
        ({"role": "admin", "models": ["digits"]}, "access.admin_scope"),
    ],
)
def test_a_bad_wish_is_refused(shared_kit: HubKit, wish: dict[str, object], code: str) -> None:
    answer = shared_kit.admin.post("/v1/tokens", json={"name": "x", "role": "viewer", **wish})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_the_last_administrator_cannot_be_revoked(kit: HubKit) -> None:
    mine = kit.admin.get("/v1/whoami").json()["token_id"]
    answer = kit.admin.delete(f"/v1/tokens/{mine}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "access.last_admin")
    assert kit.admin.get("/v1/whoami").status_code == 200
    other = kit.token(Role.ADMIN)
    assert kit.admin.delete(f"/v1/tokens/{mine}").status_code == 200
    assert code_of(kit, kit.admin_token) == "auth.revoked_token"
    assert code_of(kit, other) == ""


def test_revoking_what_is_not_there_says_so(shared_kit: HubKit) -> None:
    answer = shared_kit.admin.delete("/v1/tokens/none")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "access.no_token")


def test_tokens_are_listed_in_pages_without_secrets(kit: HubKit) -> None:
    secrets = [kit.token(Role.VIEWER) for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = kit.admin.get("/v1/tokens", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        assert not any(secret in page.text for secret in secrets)
        seen += [item["token_id"] for item in page.json()["items"]]
        cursor = page.json()["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 6
    assert seen == sorted(seen)


def test_each_change_is_in_the_audit_log(kit: HubKit) -> None:
    made = kit.admin.post("/v1/tokens", json={"name": "carol", "role": "viewer"}).json()["details"]
    kit.admin.delete(f"/v1/tokens/{made['token_id']}")
    kit.admin.delete(f"/v1/tokens/{made['token_id']}")  # again changes nothing, so it is no entry
    items = kit.admin.get("/v1/audit", params={"subject": made["token_id"]}).json()["items"]
    assert [(item["actor"], item["action"]) for item in items] == [("admin", "token.revoke"), ("admin", "token.create")]
    assert items[1]["detail"] == {"models": None, "name": "carol", "role": "viewer"}
