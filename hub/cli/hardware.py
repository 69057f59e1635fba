"""`skerry keys hsm`: signing keys in hardware, by PKCS#11. Keys are made there by the tool of the hardware's maker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hub.cli.keys import DirOption
from hub.cli.keys import app as keys
from hub.cli.output import fields_table
from hub.cli.session import Session, command, new_group

__all__ = ["app"]

app = new_group("hsm", "Signing keys in hardware (PKCS#11); PYKCS11LIB names the module of its maker.")
keys.add_typer(app)


@command(app, "list", examples=["PYKCS11LIB=libykcs11.so skerry keys hsm list"], local=True)
def list_keys(session: Session) -> None:
    """List the keys on the tokens that are plugged in, with the name that --key takes."""
    from hub.trust.hardware_keys import list_hardware

    found = list_hardware()
    items = [
        {"token": token, "uri": uri, "key_id": key.keyid, "scheme": key.scheme} for token, uri, key in found
    ]
    rows = [(item["token"], item["uri"], item["scheme"], item["key_id"]) for item in items]
    columns = ["token", "--key", "scheme", "key id"]
    session.out.rows(items, columns, rows, empty="No token has an ECDSA key on P-256 or P-384.")


@command(app, "export", examples=["skerry keys hsm export alice 'hsm:2?label=TOKEN' --dir keys"], local=True)
def export(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="For the file NAME.pub.")],
    uri: Annotated[str, typer.Argument(metavar="URI", help="The key, as `skerry keys hsm list` shows it.")] = "hsm:",
    directory: DirOption = Path(),
) -> None:
    """Write NAME.pub for a key in hardware, to be given to the others. Sign with --key URI."""
    from hub.trust.hardware_keys import read_hardware
    from hub.trust.key_files import PersonKey, export_public, parse_key_name

    found = PersonKey(parse_key_name(name), read_hardware(uri))
    path = export_public(directory, found)
    answer = {"name": name, "key_id": found.key.keyid, "scheme": found.key.scheme, "public": str(path), "uri": uri}
    session.out.result(answer, lambda: fields_table(answer.items()))
