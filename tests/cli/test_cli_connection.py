"""Finding the hub, signing in, and what is said when that fails: each failure has its own words and exit code."""

from __future__ import annotations

import hashlib
import socket
import ssl
from pathlib import Path

import pytest

from hub.cli.config import load_config
from tests.cli.rig import RunningHub, Skerry


def fingerprint(ca: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(ca.read_text())).hexdigest()


def config_of(skerry: Skerry) -> Path:
    return Path(skerry.environ["HOME"]) / ".config" / "skerry" / "config.yaml"


def test_the_environment_is_enough(skerry: Skerry) -> None:
    assert skerry.json("config", "whoami")["role"] == "admin"


def test_options_are_stronger_than_the_environment(skerry: Skerry) -> None:
    said = skerry("config", "whoami", "--token", "sk_wrong", "--json")
    assert (said.code, said.error["code"]) == (3, "auth.unknown_token")


def test_without_a_hub_it_says_how_to_sign_in(stranger: Skerry) -> None:
    said = stranger("devices", "list")
    assert said.code == 2
    assert "skerry config login" in said.err


def test_without_a_token_it_is_an_authentication_failure(stranger: Skerry) -> None:
    said = stranger("devices", "list", "--hub", "https://hub.example:8443", "--json")
    assert (said.code, said.error["code"]) == (3, "cli.no_token")


def test_an_unreachable_hub_is_named(skerry: Skerry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    said = skerry("devices", "list", "--hub", f"https://127.0.0.1:{port}", "--json")
    assert (said.code, said.error["code"], said.error["retriable"]) == (7, "hub.unreachable", True)
    assert str(port) in said.error["message"]


def test_a_certificate_of_an_unknown_ca_is_refused(skerry: Skerry) -> None:
    said = skerry("devices", "list", "--json", SKERRY_CA="")
    assert (said.code, said.error["code"]) == (6, "hub.certificate")
    assert "--ca" in said.error["hint"]


def test_a_ca_file_that_is_none_is_named(skerry: Skerry, tmp_path: Path) -> None:
    (tmp_path / "not-a-ca").write_text("hello")
    for path in (tmp_path / "absent", tmp_path / "not-a-ca"):
        said = skerry("devices", "list", "--ca", path, "--json")
        assert (said.code, said.error["code"]) == (2, "cli.ca_file")


@pytest.mark.parametrize("address", ["http://hub.example", "https://", "https://a/b", "https://u:p@hub.example"])
def test_only_an_https_address_is_a_hub(stranger: Skerry, address: str) -> None:
    said = stranger("devices", "list", "--hub", address, "--token", "sk_x", "--json")
    assert (said.code, said.error["code"]) == (2, "cli.url")


def test_login_saves_what_works(stranger: Skerry, running_hub: RunningHub) -> None:
    said = stranger(
        "config", "login", running_hub.url, "--ca", running_hub.ca, "--token", "-", stdin=running_hub.admin_token + "\n"
    )
    assert said.code == 0, said.err
    assert config_of(stranger).stat().st_mode & 0o077 == 0
    assert stranger.json("config", "whoami")["role"] == "admin"
    assert running_hub.admin_token not in stranger("config", "show").out


def test_login_checks_the_pinned_ca(stranger: Skerry, running_hub: RunningHub) -> None:
    login = ("config", "login", running_hub.url, "--token", running_hub.admin_token, "--json")
    wrong = stranger(*login, "--ca-sha256", "0" * 64)
    assert (wrong.code, wrong.error["code"]) == (6, "cli.ca_mismatch")
    assert not config_of(stranger).exists()
    assert stranger(*login, "--ca-sha256", fingerprint(running_hub.ca)).code == 0
    assert stranger.json("config", "whoami")["role"] == "admin"


def test_login_trusts_nobody_when_nobody_is_asked(stranger: Skerry, running_hub: RunningHub) -> None:
    said = stranger("config", "login", running_hub.url, "--token", running_hub.admin_token, stdin="")
    assert said.code == 2
    assert fingerprint(running_hub.ca) in said.err
    assert not config_of(stranger).exists()


def test_login_with_a_wrong_token_saves_nothing(stranger: Skerry, running_hub: RunningHub) -> None:
    said = stranger("config", "login", running_hub.url, "--ca", running_hub.ca, "--token", "sk_wrong", "--json")
    assert (said.code, said.error["code"]) == (3, "auth.unknown_token")
    assert not config_of(stranger).exists()


def test_a_saved_token_goes_to_its_own_hub_only(stranger: Skerry, running_hub: RunningHub) -> None:
    login = ("config", "login", running_hub.url, "--ca", running_hub.ca, "--token", running_hub.admin_token)
    assert stranger(*login).code == 0
    said = stranger("devices", "list", "--hub", "https://127.0.0.1:1", "--json")
    assert (said.code, said.error["code"]) == (3, "cli.no_token")
    assert stranger.json("devices", "list", "--hub", running_hub.url) is not None


def test_hubs_are_kept_by_name(stranger: Skerry, running_hub: RunningHub) -> None:
    login = ("config", "login", running_hub.url, "--ca", running_hub.ca, "--token", running_hub.admin_token, "--name")
    assert stranger(*login, "one").code == 0
    assert stranger(*login, "two").code == 0
    assert load_config(config_of(stranger)).current == "two"
    assert stranger("config", "use", "one").code == 0
    assert {(hub["name"], hub["in_use"]) for hub in stranger.json("config", "show")} == {("one", True), ("two", False)}
    assert stranger("config", "logout", "one").code == 0
    assert stranger("devices", "list", "--json").error["code"] == "cli.no_hub"
    assert stranger.json("config", "whoami", "--hub", "two")["role"] == "admin"
    assert stranger("config", "use", "one", "--json").error["code"] == "cli.unknown_hub"


def test_a_damaged_configuration_is_named(stranger: Skerry) -> None:
    path = config_of(stranger)
    path.parent.mkdir(parents=True)
    path.write_text("hubs: {default: {adress: x}}\n")
    said = stranger("devices", "list", "--json")
    assert (said.code, said.error["code"]) == (2, "cli.config")
    assert "config.yaml" in said.error["message"]
