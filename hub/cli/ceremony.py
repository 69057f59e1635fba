"""`skerry keys ceremony`: the first root of trust, signed by its holders on machines of their own, without a hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.keys import app as keys
from hub.cli.output import fields_table
from hub.cli.session import Session, command, new_group
from hub.cli.signing_options import DaysOption, KeyOption, PassphraseFiles, YesOption
from hub.cli.text import when
from shared import durable
from shared.errors import Conflict, InvalidInput, NotFound, Untrusted
from shared.limits import KIB

if TYPE_CHECKING:
    from hub.trust.ceremony import Ceremony

__all__ = ["app"]

app = new_group("ceremony", "The first root of trust, by holders on separate machines.")
keys.add_typer(app)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The ceremony file.")]
_DAY_S = 86_400
_ONLINE_BYTES = 64 * KIB


@command(
    app,
    "start",
    examples=[
        "skerry keys ceremony start --holder anna.pub --holder bert.pub --holder carla.pub --threshold 2",
        "skerry keys ceremony start --holder anna.pub --holder bert.pub --online-keys online-keys.json -o r.ceremony",
    ],
)
def start(
    session: Session,
    holder: Annotated[list[Path], typer.Option("--holder", metavar="PUB", help="A holder's NAME.pub; several times.")],
    threshold: Annotated[int, typer.Option("--threshold", min=1, help="How many holders must sign a change.")] = 2,
    online_keys: Annotated[
        Path | None,
        typer.Option("--online-keys", help="What `skerry trust online-keys --json` said; without it the hub is asked."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path("root.ceremony"),
    days: DaysOption = 365,
) -> None:
    """Write the file that the holders sign. It holds no secret; send it to them as you like."""
    from hub.cli.key_sources import public_of
    from hub.cli.offline_changes import published_key
    from hub.trust import ceremony
    from hub.trust.metadata import Quorum

    if out.exists():
        raise Conflict("cli.file", f"{out} exists already.", hint="Choose another --out, or move it away.")
    holders = [public_of(path) for path in holder]
    online = session.client.get("/v1/trust/online-keys") if online_keys is None else _read_online(online_keys)
    made = ceremony.start(
        [found.name for found in holders],
        Quorum(tuple(found.key for found in holders), threshold),
        published_key(online["online"]),
        published_key(online["assignment"]),
        expires_s=session.now() + days * _DAY_S,
    )
    durable.write_file(out, made.to_bytes(), mode=0o644)
    _say(session, made, out, f"Each holder, on their own machine: `skerry keys ceremony sign {out} --key NAME.key`")


@command(app, "show", examples=["skerry keys ceremony show root.ceremony"], local=True)
def show(session: Session, file: FileArgument) -> None:
    """Show in words what the file would make true, and who has signed it."""
    made = _read(file)
    _say(session, made, file, _next(made, file))


@command(app, "sign", examples=["skerry keys ceremony sign root.ceremony --key anna.key"], local=True)
def sign(
    session: Session,
    file: FileArgument,
    key: KeyOption,
    passphrase_file: PassphraseFiles = None,
    yes: YesOption = False,
) -> None:
    """Add your signature to the file, after reading what it says. Needs no hub and no network."""
    from hub.cli.key_sources import public_of
    from hub.cli.passphrases import open_signers

    made = _read(file)
    made.check_holder(public_of(key).key.keyid)
    if made.expires_s <= session.now():
        raise Untrusted("ceremony.expired", "What the file would make true has expired already.", hint="Do not sign.")
    session.out.note("You are about to sign the root of trust of a new hub:")
    session.out.shown(fields_table(_facts(made)))
    session.out.note("Compare the fingerprint with the other holders, for example over the telephone.")
    session.confirm("Sign this?", yes=yes)
    signed = made.sign(open_signers([key], passphrase_file)[0])
    durable.write_file(file, signed.to_bytes(), mode=0o644)
    _say(session, signed, file, _next(signed, file))


@command(
    app,
    "finish",
    examples=[
        "skerry keys ceremony finish root.ceremony",
        "skerry keys ceremony finish from-anna.ceremony from-bert.ceremony",
    ],
)
def finish(
    session: Session,
    file: Annotated[list[Path], typer.Argument(metavar="FILE…", help="The file, or copies signed side by side.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the root.")] = Path("root.json"),
) -> None:
    """Check the signatures and give the hub its root of trust. Keep root.json: devices and reviewers start from it."""
    from hub.cli.offline_changes import publish_first
    from hub.trust.ceremony import merge

    made = merge([_read(path) for path in file])
    if made.missing:
        left = [made.names[key_id] for key_id in made.quorum.key_ids if key_id not in made.signed]
        raise Conflict(
            "ceremony.unfinished",
            f"{made.missing} more of these must sign: {', '.join(left)}.",
            hint=f"`skerry keys ceremony sign {file[0]} --key NAME.key`",
            detail={"missing": made.missing, "names": left},
        )
    answer = publish_first(session, made.root, made.targets, made.assignment_keys, made.quorum, out)
    session.out.result(
        {**answer, "fingerprint": made.fingerprint},
        lambda: fields_table([("root", answer["root"]), ("sha256", answer["root_sha256"])]),
        f"The hub has its root; {made.quorum.threshold} of {len(made.quorum.keys)} holders sign every change of it.",
    )


def _read(file: Path) -> Ceremony:
    from hub.trust import ceremony

    try:
        return ceremony.read(durable.read_file(file, limit=ceremony.MAX_FILE_BYTES))
    except NotFound as error:
        raise InvalidInput("cli.file", f"There is no file {file}.", hint="Check the path.") from error


def _read_online(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(durable.read_file(file, limit=_ONLINE_BYTES))
        return {"online": found["online"], "assignment": found["assignment"]}
    except (NotFound, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            "cli.file", f"{file} does not hold a hub's online keys.", hint="`skerry trust online-keys --json > FILE`"
        ) from error


def _facts(made: Ceremony) -> list[tuple[str, object]]:
    holders = [f"{made.names[key_id]} ({key_id[:16]}…)" for key_id in made.quorum.key_ids]
    rule = f"{made.quorum.threshold} of these {len(holders)} sign every change of the root, and appoint reviewers"
    return [
        ("fingerprint", made.fingerprint),
        ("holders", "\n".join(holders)),
        ("rule", rule),
        ("freshness", f"signed by the hub's own key {made.online.keyid}"),
        ("assignments", "signed by the hub's own key " + ", ".join(key.keyid for key in made.assignment)),
        ("reviewers", "none yet; the holders appoint them for each model"),
        ("valid until", when(made.expires_s)),
        ("signed by", ", ".join(made.names[key_id] for key_id in made.signed) or "nobody yet"),
    ]


def _next(made: Ceremony, file: Path) -> str:
    if made.missing:
        return f"{made.missing} more must sign: `skerry keys ceremony sign {file} --key NAME.key`"
    return f"It has the signatures that it needs: `skerry keys ceremony finish {file}` gives it to the hub."


def _say(session: Session, made: Ceremony, file: Path, then: str) -> None:
    answer = {
        "file": str(file),
        "fingerprint": made.fingerprint,
        "threshold": made.quorum.threshold,
        "holders": [
            {"name": made.names[key_id], "key_id": key_id, "signed": key_id in made.signed}
            for key_id in made.quorum.key_ids
        ],
        "online_key_id": made.online.keyid,
        "assignment_key_ids": [key.keyid for key in made.assignment],
        "expires_s": made.expires_s,
        "missing": made.missing,
    }
    session.out.result(answer, lambda: fields_table(_facts(made)), then)
