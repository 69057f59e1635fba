"""`skerry-hub`: prepare a hub's data folder, run the hub, make an API token on the spot.

These commands work on the data folder itself, so whoever may read it may run them. People and programs elsewhere use
`skerry`, which talks HTTPS. What the commands do is in `hub.console`, which is imported when one of them runs, so that
help and completion answer at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app", "main"]

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


@app.command()
def init(data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Prepare the data folder: database, certificates, the first administrator's token. Running it again is safe.

    Example: skerry-hub init --data /var/lib/skerry-hub
    """
    from hub import console

    console.init(data, as_json)


@app.command()
def serve(
    data: Data = DEFAULT_DATA,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 for every interface.")] = None,
    port: Annotated[int | None, typer.Option(help="HTTPS port.")] = None,
    public_url: Annotated[str | None, typer.Option(help="The hub's address as devices reach it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the hub until Ctrl-C; the data folder is prepared first if it is new.

    Example: skerry-hub serve --host 0.0.0.0 --public-url https://hub.example.org:8443
    """
    from hub import console

    console.serve(data, {"host": host, "port": port, "public_url": public_url}, as_json)


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
    from hub import console

    console.create_token(data, name, role, days, as_json)


@app.command()
def listener(
    name: Annotated[str, typer.Argument(help="Who listens: lower-case letters, digits and dashes.")],
    out: Annotated[Path, typer.Option(help="A new folder for certificate, key and the hub's CA.")],
    data: Data = DEFAULT_DATA,
    days: Annotated[int, typer.Option(min=1, max=397, help="Lifetime in days.")] = 90,
    as_json: AsJson = False,
) -> None:
    """Make a certificate with which a program may read alerts (MQTT topics `alerts` and below) and nothing else.

    Example: skerry-hub listener pager --out pager-certificate
    """
    from hub import console

    console.listener(data, name, out, days, as_json)


@app.command()
def openapi(data: Data = DEFAULT_DATA) -> None:
    """Print the OpenAPI description of the hub's HTTP API as JSON.

    Example: skerry-hub openapi > openapi.json
    """
    from hub import console

    console.openapi(data)


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
