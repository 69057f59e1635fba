"""`skerry config`: which hubs are known, and signing in to one."""

from __future__ import annotations

import hashlib
import os
import ssl
import sys
from pathlib import Path
from typing import Annotated

import typer

from hub.cli.config import (
    Config,
    Connection,
    HubEntry,
    config_path,
    load_config,
    parse_entry_name,
    parse_url,
    save_config,
)
from hub.cli.output import fields_table
from hub.cli.session import Session, command, new_group
from shared import durable, ids
from shared.errors import InvalidInput, NotFound, Untrusted
from shared.limits import KIB, MAX_KEY_FILE_BYTES

__all__ = ["app"]

app = new_group("config", "Hubs that this command line knows, and who you are there.")

UrlArgument = Annotated[str, typer.Argument(metavar="URL", help="Address of the hub, like https://hub.example:8443.")]
NameOption = Annotated[str, typer.Option("--name", help="Name under which to save it.")]
TokenOption = Annotated[str | None, typer.Option("--token", help="API token; '-' reads it from standard input.")]
CaOption = Annotated[Path | None, typer.Option("--ca", help="File with the hub's CA certificate.")]
PinOption = Annotated[
    str | None, typer.Option("--ca-sha256", help="SHA-256 of the hub's CA certificate; it is fetched and checked.")
]
SystemOption = Annotated[bool, typer.Option("--system-ca", help="The hub's certificate is from a public CA.")]


@command(
    app,
    "login",
    examples=[
        "skerry config login https://hub.example:8443 --ca hub-ca.crt",
        "skerry config login https://hub.example:8443 --ca-sha256 3f1a… --token - < token.txt",
    ],
    local=True,
)
def login(
    session: Session,
    url: UrlArgument,
    name: NameOption = "default",
    token: TokenOption = None,
    ca: CaOption = None,
    ca_sha256: PinOption = None,
    system_ca: SystemOption = False,
) -> None:
    """Save a hub's address, CA and your API token, after trying them.

    Without --ca, --ca-sha256 or --system-ca the hub's CA is fetched and its fingerprint shown for you to compare.
    """
    parse_entry_name(name)
    address = parse_url(url)
    path = config_path(os.environ)
    certificate = None if system_ca else _certificate(session, address, ca, ca_sha256)
    secret = _secret(token)
    ca_path = path.parent / "ca" / f"{name}.crt"
    if certificate is not None:
        durable.make_dir(ca_path.parent)
        durable.write_file(ca_path, certificate)
    entry = HubEntry(url=address, token=secret, ca="" if certificate is None else str(ca_path))
    who = _try(entry)
    config = load_config(path)
    save_config(path, Config(current=name, hubs={**config.hubs, name: entry}))
    session.out.result(
        {"name": name, "url": address, "whoami": who},
        f"Signed in to {address} as {who['name']} ({who['role']}); saved as {name!r} and in use.",
    )


@command(app, "show", examples=["skerry config show"], local=True)
def show(session: Session) -> None:
    """Show the saved hubs; tokens stay hidden."""
    config = load_config(config_path(os.environ))
    hubs = [
        {"name": name, "url": entry.url, "ca": entry.ca, "in_use": name == config.current, "token": bool(entry.token)}
        for name, entry in sorted(config.hubs.items())
    ]
    rows = [(item["name"], item["url"], item["ca"] or "system", "*" if item["in_use"] else "") for item in hubs]
    session.out.rows(
        hubs, ["name", "url", "ca", "in use"], rows, empty="No hub is saved. Run `skerry config login URL`."
    )


@command(app, "use", examples=["skerry config use staging"], local=True)
def use(session: Session, name: Annotated[str, typer.Argument(help="Name of a saved hub.")]) -> None:
    """Choose the hub that commands talk to."""
    path = config_path(os.environ)
    config = load_config(path)
    if name not in config.hubs:
        raise NotFound(
            "cli.unknown_hub", f"There is no hub named {name!r:.80}.", hint="`skerry config show` lists them."
        )
    save_config(path, Config(current=name, hubs=config.hubs))
    session.out.result({"current": name}, f"{name} is in use.")


@command(app, "logout", examples=["skerry config logout staging"], local=True)
def logout(session: Session, name: Annotated[str, typer.Argument(help="Name of a saved hub.")] = "default") -> None:
    """Forget a saved hub and its token. The token itself stays valid: revoke it with `skerry tokens revoke`."""
    path = config_path(os.environ)
    config = load_config(path)
    if name not in config.hubs:
        raise NotFound(
            "cli.unknown_hub", f"There is no hub named {name!r:.80}.", hint="`skerry config show` lists them."
        )
    left = {key: entry for key, entry in config.hubs.items() if key != name}
    save_config(path, Config(current=config.current if config.current in left else "", hubs=left))
    session.out.result({"forgotten": name}, f"{name} is forgotten.")


@command(app, "whoami", examples=["skerry config whoami"])
def whoami(session: Session) -> None:
    """Show who the hub says you are."""
    who = session.client.get("/v1/whoami")
    session.out.result(who, lambda: fields_table(sorted(who.items())))


def _secret(token: str | None) -> str:
    if token is None:
        token = os.environ.get("SKERRY_TOKEN") or typer.prompt("API token", hide_input=True, err=True)
    elif token == "-":
        token = sys.stdin.readline(4096)
    if not token.strip():
        raise InvalidInput("cli.no_token", "The API token is empty.", hint="`skerry tokens create` makes one.")
    return token.strip()


def _try(entry: HubEntry) -> dict[str, str]:
    from hub.cli.client import HubClient

    with HubClient(Connection(url=entry.url, token=entry.token, ca=Path(entry.ca) if entry.ca else None)) as client:
        who: dict[str, str] = client.get("/v1/whoami")
        return who


def _certificate(session: Session, url: str, ca: Path | None, pin: str | None) -> bytes:
    """The PEM of the hub's CA: from a file, or fetched and compared with the pin or by the person."""
    if ca is not None:
        return durable.read_file(ca, limit=MAX_KEY_FILE_BYTES)
    from hub.cli.first_contact import fetch_ca

    pem = fetch_ca(url, limit=64 * KIB)
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))).hexdigest()
    if pin is not None:
        if fingerprint != ids.parse_sha256(pin.replace(":", "").lower()):
            raise Untrusted(
                "cli.ca_mismatch",
                f"The hub at {url} shows a CA with SHA-256 {fingerprint}, not the one that you gave.",
                hint="Do not go on: another machine may be answering in the hub's place.",
            )
        return pem
    session.out.note(f"The CA of {url} has the SHA-256 fingerprint\n  {fingerprint}")
    session.confirm("Is this what `skerry-hub` showed on the hub's own machine?", yes=False)
    return pem
