"""`skerry-hub`: prepare a hub's data folder, run the hub, make an API token on the spot.

These commands work on the data folder itself, so whoever may read it may run them. People and programs elsewhere use
`skerry`, which talks HTTPS.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from hub.access.permissions import parse_role
from hub.api.app import create_app
from hub.api.server import listen
from hub.provision import Provisioned, provision
from hub.serving import serve, stop_on_signals
from hub.settings import HubSettings
from hub.wiring import Hub, build_hub
from shared.errors import EXIT_CODES, SkerryError
from shared.settings import load_settings

__all__ = ["app", "main"]

ENV_PREFIX = "SKERRY_HUB_"
DEFAULT_DATA = Path("skerry-hub-data")

app = typer.Typer(
    name="skerry-hub",
    help="Run a Skerry hub: registry, releases, deployments and fleet in one process.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
token_app = typer.Typer(help="API tokens, made on the hub's own machine.", no_args_is_help=True)
app.add_typer(token_app, name="token")

Data = Annotated[
    Path, typer.Option("--data", "-d", envvar="SKERRY_HUB_DATA_DIR", help="The hub's data folder.", show_default=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@contextmanager
def _reported(as_json: bool) -> Iterator[None]:
    try:
        yield
    except SkerryError as error:
        if as_json:
            print(json.dumps({"error": {"code": error.code, "message": error.message, "hint": error.hint}}))
        else:
            print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_CODES[error.family]) from error


def _settings(data: Path, **overrides: Any) -> HubSettings:
    file = data / "hub.yaml"
    return load_settings(HubSettings, file if file.exists() else None, ENV_PREFIX, {"data_dir": str(data), **overrides})


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


@app.command()
def init(data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Prepare the data folder: database, certificates, the first administrator's token. Running it again is safe.

    Example: skerry-hub init --data /var/lib/skerry-hub
    """
    with _reported(as_json):
        settings = _settings(data)
        made = provision(settings)
        _print(as_json, _facts(settings, made), "\n".join(_lines(settings, made)))


@app.command("serve")
def serve_command(
    data: Data = DEFAULT_DATA,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 for every interface.")] = None,
    port: Annotated[int | None, typer.Option(help="HTTPS port.")] = None,
    public_url: Annotated[str | None, typer.Option(help="The hub's address as devices reach it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the hub until Ctrl-C; the data folder is prepared first if it is new.

    Example: skerry-hub serve --host 0.0.0.0 --public-url https://hub.example.org:8443
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with _reported(as_json):
        settings = _settings(data, host=host, port=port, public_url=public_url)
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
            await serve(hub, sock, stop, ready)
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


@token_app.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="Whose token it is; shown in the audit log.")],
    data: Data = DEFAULT_DATA,
    role: Annotated[str, typer.Option(help="viewer, data_scientist, operator, reviewer or admin.")] = "admin",
    days: Annotated[int | None, typer.Option(help="Lifetime in days.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an API token without having one, for example when the administrator's was lost. It is shown once.

    Example: skerry-hub token create alice --role operator
    """
    with _reported(as_json):
        settings = _settings(data)
        with _hub(settings) as hub:
            made = hub.tokens.create(
                actor="hub", name=name, role=parse_role(role), days=settings.token_days if days is None else days
            )
        values = {"token": made.secret, "token_id": made.token.token_id, "expires_s": made.token.expires_s}
        _print(as_json, values, made.secret)


@app.command()
def openapi(data: Data = DEFAULT_DATA) -> None:
    """Print the OpenAPI description of the hub's HTTP API as JSON.

    Example: skerry-hub openapi > openapi.json
    """
    with _reported(True), _hub(_settings(data)) as hub:
        print(json.dumps(create_app(hub).openapi(), indent=2))


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
