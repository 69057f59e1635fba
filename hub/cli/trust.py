"""`skerry trust`: the root of trust of a hub, what waits for signatures, and a static copy of the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli.output import fields_table, rows_table
from hub.cli.session import Session, command, new_group
from hub.cli.signing_options import DaysOption, KeyOption, PassphraseFiles, SignWith, YesOption
from hub.cli.text import ago, short_digest, when
from shared.errors import InvalidInput, SkerryError
from shared.ids import parse_model_name

__all__ = ["app"]

app = new_group("trust", "The root of trust: set up, look at, sign, renew, export.")

RoleArgument = Annotated[str, typer.Argument(metavar="ROLE", help="root, targets or model-NAME.")]
_WARN_S = 30 * 86_400


@command(
    app,
    "init",
    examples=["skerry trust init --root-key anna.key --root-key bert.key --root-key carla.pub --threshold 2"],
)
def init(
    session: Session,
    root_key: Annotated[
        list[Path],
        typer.Option("--root-key", metavar="KEY", help="NAME.key signs now; NAME.pub is a holder who does not."),
    ],
    threshold: Annotated[int, typer.Option("--threshold", min=1, help="How many holders must sign a change.")] = 2,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the root.")] = Path("root.json"),
    days: DaysOption = 365,
    passphrase_file: PassphraseFiles = None,
) -> None:
    """Give a new hub its root of trust. Keep root.json: it is what devices and reviewers start from."""
    from hub.cli.key_sources import can_sign
    from hub.cli.offline_changes import first_trust, quorum_of_files
    from hub.cli.passphrases import open_signers

    quorum = quorum_of_files(root_key, threshold)
    private = [path for path in root_key if can_sign(path)]
    if len(private) < threshold:
        raise InvalidInput(
            "trust.too_few_signers",
            f"{threshold} holders must sign, and {len(private)} private key(s) are given.",
            hint="Give NAME.key, not NAME.pub, for those who sign now; on separate machines: `skerry keys ceremony`.",
        )
    answer = first_trust(session, quorum, open_signers(private, passphrase_file), days, out)
    session.out.result(
        answer,
        lambda: fields_table([("root", answer["root"]), ("sha256", answer["root_sha256"])]),
        f"The hub has its root; {threshold} of {len(root_key)} holders sign every change of it.",
    )


@command(app, "online-keys", examples=["skerry trust online-keys --json > online-keys.json"])
def online_keys(session: Session) -> None:
    """Show the hub's own public keys, for `skerry keys ceremony start` on another machine."""
    answer = session.client.get("/v1/trust/online-keys")
    fields = [(name.replace("_", " "), answer[name]["key_id"]) for name in answer if answer[name] is not None]
    session.out.result(answer, lambda: fields_table(fields))


@command(app, "pin", examples=["skerry trust pin root.json"])
def pin_root(session: Session, root: Annotated[Path, typer.Argument(metavar="ROOT", help="root.json.")]) -> None:
    """Trust this root for the hub from now on. Take it from someone who signed it, not from the hub."""
    from hub.cli.repository_view import open_view, pin, unpin
    from shared import durable
    from shared.limits import MAX_ROOT_BYTES

    new = pin(session.client.url, durable.read_file(root, limit=MAX_ROOT_BYTES))
    try:
        open_view(session)
    except SkerryError:
        if new:
            unpin(session.client.url)
        raise
    session.out.result({"pinned": str(root)}, "The root is kept, and the hub's repository verifies against it.")


@command(app, "show", examples=["skerry trust show"])
def show(session: Session) -> None:
    """Show roles, their keys and expiry, and what waits for signatures."""
    from hub.cli.trust_text import staged_table

    status = session.client.get("/v1/trust/status")
    now = session.now()
    rows = [
        (
            role["role"],
            role["version"],
            f"{role['threshold']} of {len(role['key_ids'])}",
            ", ".join(short_digest(key_id) for key_id in role["key_ids"]),
            ago(role["expires_s"], now),
        )
        for role in status["roles"]
    ]
    views: list[object] = [rows_table(["role", "version", "signed by", "keys", "expires"], rows)]
    if status["staged"]:
        views.append(staged_table(session, status["staged"]))
    session.out.result(status, *views)
    for role in status["roles"]:
        if role["role"] not in ("timestamp", "snapshot") and role["expires_s"] - now < _WARN_S:
            session.out.warn(
                f"{role['role']} expires {ago(role['expires_s'], now)}: `skerry trust renew {role['role']}`."
            )
    if not status["initialised"]:
        session.out.warn("The hub has no root of trust yet: `skerry trust init`.")


@command(app, "sign", examples=["skerry trust sign root --key anna.key"])
def sign(
    session: Session,
    role: RoleArgument,
    key: KeyOption,
    passphrase_file: PassphraseFiles = None,
    yes: YesOption = False,
) -> None:
    """Sign what waits in a role, after showing every change that it makes."""
    from hub.cli.signatures import sign_staged
    from hub.cli.trust_text import say_all

    answer = sign_staged(session, role, key, passphrase_file, yes=yes)
    say_all(session, [answer])


@command(app, "renew", examples=["skerry trust renew targets --sign-with anna.key --sign-with bert.key"])
def renew(
    session: Session,
    role: RoleArgument,
    sign_with: SignWith,
    days: DaysOption = 365,
    passphrase_file: PassphraseFiles = None,
) -> None:
    """Sign a role again before it expires: the same content, the next version, a new expiry."""
    from hub.cli.offline_changes import OfflineChange
    from hub.cli.passphrases import open_signers
    from hub.cli.trust_text import say_all
    from hub.trust.names import parse_role

    name = parse_role(role)
    signers = open_signers(sign_with, passphrase_file)
    say_all(session, OfflineChange(session, signers, days).renew(name, days))


@command(app, "withdraw", examples=["skerry trust withdraw model-digits"])
def withdraw(session: Session, role: RoleArgument, yes: YesOption = False) -> None:
    """Take back what waits for signatures in a role, with the signatures that it has."""
    from hub.trust.names import parse_role

    name = parse_role(role)
    staged: dict[str, Any] = session.client.get(f"/v1/trust/staged/{name}")
    session.confirm(f"Take back version {staged['version']} of {name}?", yes=yes)
    session.client.delete(f"/v1/trust/staged/{name}")
    session.out.result({"role": name, "version": staged["version"]}, f"{name} waits for nothing now.")


@command(
    app,
    "export",
    examples=[
        "skerry trust export mirror",
        "skerry trust export /media/usb/skerry --device pi-7 --device pi-8",
    ],
)
def export(
    session: Session,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder; files that are there already stay.")],
    device: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="ID", help="Add this device's signed assignments, and only what they need."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="MODEL", help="Only bundles and assignments of this model.")
    ] = None,
) -> None:
    """Write a verified static copy of the repository, with approved bundles: a mirror, or a USB stick.

    With --device, `skerry-agent install DIR` on that device installs from it without network.
    """
    from hub.cli.mirroring import mirror

    models = [parse_model_name(name) for name in model or ()]
    answer = mirror(session, directory, models=models, devices=device or ())
    lines = [f"{answer['metadata']} metadata files and {answer['targets']} target files are there."]
    for item in answer["assignments"]:
        lines.append(f"{item['device_id']} is assigned {item['model']} {item['version']}: `skerry-agent install DIR`.")
    if device:
        lines.append(f"Devices take this folder until {when(answer['valid_until_s'])}; then make it again.")
    session.out.result(answer, *lines)
    for role in answer["expired_roles"]:
        session.out.warn(
            f"{role} has expired, so its bundles and assignments are left out: "
            f"`skerry trust renew {role} --sign-with NAME.key`, then export again."
        )
    for path in answer["left_out"]:
        session.out.warn(f"{path} is not at the hub any more and is left out.")
