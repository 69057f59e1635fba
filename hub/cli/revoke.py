"""`skerry versions revoke`: take an approval back, by the signatures of as many reviewers as an approval needs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hub.cli.models import ModelArgument, VersionArgument
from hub.cli.output import fields_table
from hub.cli.session import Session, command
from hub.cli.signing_options import DaysOption, KeyOption, PassphraseFiles, YesOption
from hub.cli.text import when
from hub.cli.versions import app
from shared.errors import Conflict, NotFound

__all__: list[str] = []


@command(app, "revoke", examples=["skerry versions revoke digits 3 --key alice.key --reason 'wrong labels'"])
def revoke(
    session: Session,
    model: ModelArgument,
    version: VersionArgument,
    key: KeyOption,
    reason: Annotated[str, typer.Option("--reason", help="Why; shown to who signs next, and in the audit log.")] = "",
    days: DaysOption = 365,
    passphrase_file: PassphraseFiles = None,
    yes: YesOption = False,
) -> None:
    """Take an approval back with your key. The last signature that is needed withdraws the version for good.

    From then on no device installs it, whatever the hub says; `versions withdraw` is the hub's own word only. Devices
    that serve it keep it until they get another version.
    """
    from hub.cli.repository_view import open_view
    from hub.cli.signatures import check_may_sign, check_next, post_signature
    from hub.cli.trust_text import say_all
    from hub.trust import metadata
    from hub.trust.difference import check_only_removes
    from hub.trust.names import role_of, target_path

    role, view = role_of(model), open_view(session)
    published = view.role(role)
    path = target_path(model, version)
    if published is None or path not in _approved(published):
        raise Conflict(
            "release.not_approved",
            f"Version {version} of {model} is not approved, so there is no approval to take back.",
            hint="`skerry versions withdraw` keeps a version from ever being deployed.",
        )
    check_may_sign(role, key, [view.targets])
    unsigned = metadata.build_revocation(published, model, version, expires_s=session.now() + days * 86_400)
    staged = _staged(session, role, unsigned, reason)
    if path in _approved(staged["metadata"].encode()):
        raise Conflict(
            "release.busy",
            f"Another change is waiting for signatures in {role}.",
            hint=f"Look at it with `skerry trust show`; withdraw it with `skerry trust withdraw {role}`.",
        )
    data: bytes = staged["metadata"].encode()
    check_next(role, published, data, staged["version"], session.now())
    check_only_removes(published, data, model, version, session.now())
    _show(session, model, version, published, staged)
    session.confirm(f"Take back the approval of version {version} of {model} for good?", yes=yes)
    say_all(session, [post_signature(session, role, staged["version"], data, key, passphrase_file)])


def _approved(data: bytes) -> dict[str, Any]:
    """What a model's role speaks about, by target path."""
    from tuf.api.metadata import Targets

    from hub.trust import metadata

    return dict(metadata.parse(data, Targets).signed.targets)


def _staged(session: Session, role: str, unsigned: bytes, reason: str) -> dict[str, Any]:
    """What waits for signatures already, else what is staged now."""
    try:
        found: dict[str, Any] = session.client.get(f"/v1/trust/staged/{role}")
    except NotFound as error:
        if error.code != "trust.not_staged":
            raise
        body = {"metadata": unsigned.decode(), "files": {}, "note": reason}
        found = session.client.put(f"/v1/trust/staged/{role}", body)
    return found


def _show(session: Session, model: str, version: int, published: bytes, staged: dict[str, Any]) -> None:
    from hub.trust import metadata
    from hub.trust.names import target_path

    approved = _approved(published)
    aliases = session.client.get(f"/v1/models/{model}/aliases")["items"]
    named = sorted(item["alias"] for item in aliases if item["version"] == version)
    needed = max((item["threshold"] for item in staged["requirements"]), default=0)
    facts: list[tuple[str, object]] = [
        ("revoke", f"{model} version {version}"),
        ("sha256", approved[target_path(model, version)].hashes["sha256"]),
        ("why", staged["context"].get("note") or "-"),
        ("staged by", staged["staged_by"]),
        ("until", when(metadata.expiry_s(metadata.parse_any(staged["metadata"].encode()).signed))),
        ("signatures", f"{needed - staged['missing']} of {needed} so far"),
        ("stays", f"{len(approved) - 1} other approved version(s)"),
    ]
    session.out.shown(fields_table(facts))
    if named:
        session.out.warn(f"{', '.join(named)} of {model} names this version: move it with `skerry versions promote`.")
