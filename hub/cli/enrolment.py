"""`skerry devices token|tokens|token-delete`: one-time tokens that let devices in."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from hub.cli.devices import app
from hub.cli.session import Session, command
from hub.cli.text import ago, parse_duration, parse_pairs, when
from shared import durable
from shared.errors import InvalidInput
from shared.ids import parse_device_id
from shared.join import decode_join, encode_join
from shared.limits import MAX_ROOT_BYTES

__all__: list[str] = []


@command(
    app,
    "token",
    examples=[
        "skerry devices token --profile raspberry-pi-4 --tag site=north",
        "skerry devices token --device pi-kitchen --root root.json",
        "skerry devices token --count 20 --ttl 7d --json",
    ],
)
def create_token(
    session: Session,
    device: Annotated[str | None, typer.Option("--device", help="Fix the device's id; default: its own wish.")] = None,
    hardware: Annotated[str | None, typer.Option("--hardware", help="Let in this hardware id only.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="Demand this firmware profile.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="Tag the device.")] = None,
    ttl: Annotated[str | None, typer.Option("--ttl", help="Valid for so long, like 2h or 7d.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Make so many.")] = 1,
    root: Annotated[
        Path | None, typer.Option("--root", help="Your copy of the TUF root metadata: the device accepts no other.")
    ] = None,
) -> None:
    """Make a join string: paste it on the device as `skerry-agent enrol JOIN`. It works once, and is shown once."""
    wish = {
        "device_id": None if device is None else parse_device_id(device),
        "hardware_id": hardware,
        "profile": profile,
        "tags": parse_pairs(tag or []),
        "ttl_s": None if ttl is None else parse_duration(ttl),
        "count": count,
    }
    pin = None if root is None else hashlib.sha256(_root(root)).hexdigest()
    answer = session.client.post("/v1/enrolment-tokens", wish)
    if pin is not None:
        answer = {**answer, "join": _pinned(answer["join"], pin), "items": [_item(row, pin) for row in answer["items"]]}
    session.out.note(f"Valid until {when(answer['expires_s'])}. On the device: skerry-agent enrol JOIN")
    session.out.result(answer, "\n".join(item["join"] for item in answer["items"]))


@command(app, "tokens", examples=["skerry devices tokens"])
def list_tokens(session: Session) -> None:
    """List enrolment tokens, without their secrets."""
    items = list(session.client.pages("/v1/enrolment-tokens"))
    now = session.now()
    rows = [
        (
            item["token_id"],
            f"used by {item['used_by']}" if item["used_s"] else "expired" if item["expires_s"] <= now else "open",
            item["device_id"],
            item["profile"],
            ", ".join(f"{key}={value}" for key, value in item["tags"].items()),
            item["created_by"],
            ago(item["expires_s"], now),
        )
        for item in items
    ]
    columns = ["token", "status", "device", "profile", "tags", "made by", "expires"]
    session.out.rows(items, columns, rows, empty="No enrolment tokens.")


@command(app, "token-delete", examples=["skerry devices token-delete 5f0c2a9b3d4e1f60"])
def delete_token(
    session: Session, token: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="Id of an unused token.")]
) -> None:
    """Take an unused enrolment token back."""
    if not token.isalnum():
        raise InvalidInput(
            "cli.token_id", f"{token!r:.80} is not the id of a token.", hint="`skerry devices tokens` lists them."
        )
    session.client.delete(f"/v1/enrolment-tokens/{token}")
    session.out.result({"token_id": token, "deleted": True}, f"The token {token} is gone.")


def _root(path: Path) -> bytes:
    return durable.read_file(path, limit=MAX_ROOT_BYTES)


def _pinned(join: str, pin: str) -> str:
    return encode_join(msgspec.structs.replace(decode_join(join), tuf_root_sha256=pin))


def _item(item: dict[str, Any], pin: str) -> dict[str, Any]:
    return {**item, "join": _pinned(item["join"], pin)}
