"""Settings are parsed once; a mistake refuses to start and names the key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from shared.errors import InvalidInput, SkerryError
from shared.settings import load_settings, setting_names

Port = Annotated[int, Meta(ge=1, le=65535)]


class Broker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str = ""
    port: Port = 4222


class Example(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data_dir: Path
    port: Port = 8443
    secure: bool = True
    names: list[str] = []
    note: str | None = None
    broker: Broker = Broker()
    spare: Broker | None = None


def load(path: Path | None = None, environ: dict[str, str] | None = None, **overrides: Any) -> Example:
    return load_settings(Example, path, "SKERRY_HUB_", {"data_dir": "/data", **overrides}, environ=environ or {})


def refused(path: Path | None = None, environ: dict[str, str] | None = None, **overrides: Any) -> SkerryError:
    with pytest.raises(SkerryError) as caught:
        load(path, environ, **overrides)
    return caught.value


def written(folder: Path, text: str) -> Path:
    path = folder / "hub.yaml"
    path.write_text(text)
    return path


def test_later_sources_win_key_by_key(tmp_path: Path) -> None:
    path = written(tmp_path, "port: 1\nsecure: false\nbroker: {host: file, port: 11}\n")
    environ = {"SKERRY_HUB_PORT": "2", "SKERRY_HUB_BROKER__PORT": "22", "UNRELATED": "x"}
    settings = load(path, environ, port=3)
    assert settings == Example(data_dir=Path("/data"), port=3, secure=False, broker=Broker(host="file", port=22))


def test_an_option_that_was_not_given_overrides_nothing(tmp_path: Path) -> None:
    assert load(written(tmp_path, "port: 5\n"), port=None).port == 5


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert load(written(tmp_path, "# nothing yet\n")) == Example(data_dir=Path("/data"))


def test_environment_values_have_the_type_of_their_setting() -> None:
    environ = {
        "SKERRY_HUB_NOTE": "0123",
        "SKERRY_HUB_SECURE": "false",
        "SKERRY_HUB_NAMES": "[a, b]",
        "SKERRY_HUB_SPARE__PORT": "7",
        "SKERRY_HUB_DATA_DIR": "elsewhere",
    }
    settings = load_settings(Example, None, "SKERRY_HUB_", {}, environ=environ)
    assert settings == Example(
        data_dir=Path("elsewhere"), note="0123", secure=False, names=["a", "b"], spare=Broker(port=7)
    )


@pytest.mark.parametrize(
    ("text", "code", "key"),
    [
        ("prt: 1\n", "settings.unknown_key", "prt"),
        ("broker: {prt: 1}\n", "settings.unknown_key", "broker.prt"),
        ("spare: {prt: 1}\n", "settings.unknown_key", "spare.prt"),
        ("port: many\n", "settings.bad_value", "port"),
        ("port: '1'\n", "settings.bad_value", "port"),
        ("port: 70000\n", "settings.bad_value", "port"),
        ("port:\n", "settings.bad_value", "port"),
        ("broker: {port: 0}\n", "settings.bad_value", "broker.port"),
        ("broker: 5\n", "settings.bad_value", "broker"),
        ("data_dir: 5\n", "settings.bad_value", "data_dir"),
    ],
)
def test_a_mistake_in_the_file_names_the_key(tmp_path: Path, text: str, code: str, key: str) -> None:
    overrides = {"data_dir": None} if key == "data_dir" else {}
    error = refused(written(tmp_path, text), **overrides)
    assert (error.code, error.detail["key"]) == (code, key)
    assert key in error.message
    assert "hub.yaml" in error.message


def test_an_unknown_key_suggests_the_nearest(tmp_path: Path) -> None:
    assert "broker.port" in refused(written(tmp_path, "broker: {prt: 1}\n")).hint


def test_a_misspelt_variable_refuses_to_start() -> None:
    error = refused(environ={"SKERRY_HUB_BROKER_PORT": "1"})
    assert (error.code, error.detail["key"]) == ("settings.unknown_key", "SKERRY_HUB_BROKER_PORT")
    assert "SKERRY_HUB_BROKER__PORT" in error.hint


def test_a_bad_variable_is_named_by_its_own_name() -> None:
    error = refused(environ={"SKERRY_HUB_BROKER__PORT": "many"})
    assert error.code == "settings.bad_value"
    assert "SKERRY_HUB_BROKER__PORT" in error.message


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(InvalidInput, match="data_dir") as caught:
        load_settings(Example, None, "SKERRY_HUB_", {}, environ={})
    assert caught.value.code == "settings.missing"


def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path) -> None:
    assert refused(written(tmp_path, "- port\n")).code == "settings.bad_value"


def test_settings_cannot_change_after_the_start() -> None:
    with pytest.raises(AttributeError):
        load().port = 1  # type: ignore[misc]


def test_all_names_are_listed() -> None:
    assert setting_names(Example) == [
        "data_dir", "port", "secure", "names", "note", "broker.host", "broker.port", "spare.host", "spare.port",
    ]  # fmt: skip
