"""What the `skerry-hub` commands do: errors to words and exit codes, the hub's life in one process."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import typer

from hub.access.permissions import parse_role
from hub.api.app import create_app
from hub.api.server import listen
from hub.pki.listeners import issue_listener
from hub.provision import Provisioned, provision
from hub.serving import serve as serve_hub
from hub.serving import stop_on_signals
from hub.settings import HubSettings
from hub.wiring import Hub, build_hub
from shared.errors import EXIT_CODES, SkerryError
from shared.settings import load_settings

__all__ = ["create_token", "init", "listener", "openapi", "serve"]

ENV_PREFIX = "SKERRY_HUB_"


@contextmanager
def _reported(as_json: bool) -> Iterator[None]:
    try:
        yield
    except SkerryError as error:
        if as_json:
            print(json.dumps({"error": msgspec.to_builtins(error.body())}))
        else:
            print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_CODES[error.family]) from error


def _settings(data: Path, overrides: Mapping[str, Any] | None = None) -> HubSettings:
    file = data / "hub.yaml"
    return load_settings(
        HubSettings, file if file.exists() else None, ENV_PREFIX, {"data_dir": str(data), **(overrides or {})}
    )


def _print(as_json: bool, values: dict[str, Any], text: str) -> None:
    print(json.dumps(values) if as_json else text, flush=True)


@contextmanager
def _hub(settings: HubSettings) -> Iterator[Hub]:
    provision(settings)
    hub = build_hub(settings)
    try:
        yield hub
    finally:
        hub.close()


def init(data: Path, as_json: bool) -> None:
    """Prepare the data folder."""
    with _reported(as_json):
        settings = _settings(data)
        made = provision(settings)
        _print(as_json, _facts(settings, made), "\n".join(_lines(settings, made)))


def serve(data: Path, overrides: Mapping[str, Any], as_json: bool) -> None:
    """Run the hub until a signal; `overrides` are settings from the command line, None for not given."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with _reported(as_json):
        settings = _settings(data, overrides)
        made = provision(settings)
        hub = build_hub(settings)
        try:
            asyncio.run(_serve(hub, made, as_json))
        finally:
            hub.close()


async def _serve(hub: Hub, made: Provisioned, as_json: bool) -> None:
    def ready() -> None:
        facts = {**_facts(hub.settings, made), "ready": True}
        _print(as_json, facts, "\n".join([*_lines(hub.settings, made), "The hub is ready. Ctrl-C ends it."]))

    stop = asyncio.Event()
    stop_on_signals(stop)
    with listen(hub.settings) as sock:
        try:
            await serve_hub(hub, sock, stop, ready)
        except* SkerryError as group:
            raise _first(group) from group


def _first(group: BaseExceptionGroup[SkerryError]) -> SkerryError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, SkerryError):
        raise error
    return error


def _facts(settings: HubSettings, made: Provisioned) -> dict[str, Any]:
    return {
        "url": settings.url,
        "mqtt": f"mqtts://{settings.broker_host}:{settings.mqtt_port}",
        "data_dir": str(settings.data_path.absolute()),
        "ca_file": str((settings.pki_path / "hub-ca.crt").absolute()),
        "admin_token_file": str(settings.admin_token_path.absolute()),
        "created": made.created,
    }


def _lines(settings: HubSettings, made: Provisioned) -> list[str]:
    facts = _facts(settings, made)
    token = "is new" if made.admin_token_path else "was made before"
    return [
        f"Hub:          {facts['url']}",
        f"Broker:       {facts['mqtt']}",
        f"Data folder:  {facts['data_dir']}",
        f"CA:           {facts['ca_file']}",
        f"Admin token:  {facts['admin_token_file']} ({token})",
    ]


def create_token(data: Path, name: str, role: str, days: int | None, as_json: bool) -> None:
    """Make and show an API token."""
    with _reported(as_json):
        settings = _settings(data)
        with _hub(settings) as hub:
            made = hub.tokens.create(
                actor="hub", name=name, role=parse_role(role), days=settings.token_days if days is None else days
            )
        values = {"token": made.secret, "token_id": made.token.token_id, "expires_s": made.token.expires_s}
        _print(as_json, values, made.secret)


def listener(data: Path, name: str, out: Path, days: int, as_json: bool) -> None:
    """Make a certificate for a program that reads alerts from the broker."""
    with _reported(as_json):
        settings = _settings(data)
        with _hub(settings) as hub:
            made = issue_listener(hub.pki.hub_ca, name, out, now_s=hub.clock.now(), lifetime_s=days * 86_400.0)
            with hub.db.write() as connection:
                hub.audit.append(connection, "hub", "listener.create", made.client_id, {"serial": made.serial})
        files = {"certificate": made.files[0], "key": made.files[1], "ca": made.files[2]}
        values = {
            "client_id": made.client_id,
            "broker": f"mqtts://{settings.broker_host}:{settings.mqtt_port}",
            "topics": "alerts/#",
            "not_after_s": made.not_after_s,
            **{name: str(path.absolute()) for name, path in files.items()},
        }
        _print(as_json, values, "\n".join(f"{name:12} {value}" for name, value in values.items()))


def openapi(data: Path) -> None:
    """Print the API's description."""
    with _reported(True), _hub(_settings(data)) as hub:
        print(json.dumps(create_app(hub).openapi(), indent=2))
