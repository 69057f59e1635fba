"""`skerry models create`: a model at the hub, and its reviewers in the signed targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli.models import ModelArgument, app, read_policy
from hub.cli.session import Session, command
from hub.cli.signing_options import DaysOption, PassphraseFiles
from hub.cli.text import parse_duration
from shared.errors import Conflict, InvalidInput

__all__: list[str] = []


@command(
    app,
    "create",
    examples=[
        "skerry models create digits --reviewer alice.pub --reviewer bob.pub --sign-with anna.key --sign-with bert.key",
        "skerry models create digits --description 'Handwritten digits' --gate gate.yaml",
    ],
)
def create(
    session: Session,
    model: ModelArgument,
    reviewer: Annotated[
        list[Path] | None, typer.Option("--reviewer", metavar="PUB", help="Public key of a reviewer; several times.")
    ] = None,
    threshold: Annotated[int, typer.Option("--threshold", min=1, help="How many reviewers must sign a version.")] = 2,
    sign_with: Annotated[
        list[Path] | None, typer.Option("--sign-with", metavar="KEY", help="Offline key to sign with; several times.")
    ] = None,
    description: Annotated[str | None, typer.Option("--description", help="What it is for.")] = None,
    gate: Annotated[Path | None, typer.Option("--gate", help="Gate policy, YAML or JSON.")] = None,
    probation: Annotated[str | None, typer.Option("--probation", help="How long devices watch an install.")] = None,
    days: DaysOption = 365,
    passphrase_file: PassphraseFiles = None,
) -> None:
    """Create a model and appoint its reviewers, which the holders of the offline keys sign.

    Run again for a model that exists, it appoints the reviewers only.
    """
    if bool(reviewer) != bool(sign_with):
        raise InvalidInput(
            "cli.contradiction",
            "Reviewers are appointed by the holders of the offline keys.",
            hint="Give --reviewer and --sign-with together, or neither.",
        )
    answers: list[dict[str, Any]] = []
    if reviewer and sign_with:
        from hub.cli.offline_changes import OfflineChange, quorum_of_files
        from hub.cli.passphrases import open_signers

        quorum = quorum_of_files(reviewer, threshold)
        change = OfflineChange(session, open_signers(sign_with, passphrase_file), days)
        made = _create(session, model, description, gate, probation)
        answers = change.appoint(model, quorum)
    else:
        made = _create(session, model, description, gate, probation)
    _say(session, model, made, answers, appointed=bool(reviewer))


def _create(
    session: Session, model: str, description: str | None, gate: Path | None, probation: str | None
) -> dict[str, Any]:
    """The model at the hub; one that exists already stays as it is."""
    body = {
        "name": model,
        "description": description,
        "gate": None if gate is None else read_policy(gate),
        "bake_s": None if probation is None else parse_duration(probation),
    }
    try:
        made: dict[str, Any] = session.client.post("/v1/models", body)
    except Conflict as error:
        if error.code != "model.exists":
            raise
        made = session.client.get(f"/v1/models/{model}")
        session.out.note(f"{model} exists already; change it with `skerry models update`.")
    return made


def _say(
    session: Session, model: str, made: dict[str, Any], answers: list[dict[str, Any]], *, appointed: bool
) -> None:
    from hub.cli.trust_text import said

    lines = [said(answer) for answer in answers]
    if not appointed:
        lines = [f"Nobody may approve its versions yet: `skerry models create {model} --reviewer …` appoints some."]
    session.out.result({"model": made, "outcomes": answers}, f"{model} is there.", *lines)
