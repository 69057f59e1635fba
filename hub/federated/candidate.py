"""What the next version is made of: its lineage, its card, and its manifest, from the base's and the run. Pure.

Rules: the same run, base and number give the same bytes (there is no time in them); every file that the head does not
decide keeps its bytes and its place, so that the delta to the base is small.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hub.federated.evaluation import Evaluation, Slice
from hub.federated.outcome import RunOutcome
from hub.federated.run import definition_digest
from shared import __version__, canonical
from shared.bundle.manifest import FileEntry, Lineage, Manifest, Role
from shared.limits import MAX_CARD_BYTES

__all__ = ["candidate_lineage", "candidate_manifest", "cohort_digest", "write_card"]

_ROLES: dict[str, Role] = {"reference": "reference", "calibration": "calibration", "card": "card"}
_BEFORE = "\n\n## Card of version "


def cohort_digest(device_ids: Sequence[str]) -> str:
    """SHA-256 over the sorted ids as canonical JSON: tells whether a device took part, to who knows the devices."""
    return hashlib.sha256(canonical.dumps(sorted(set(device_ids)))).hexdigest()


def candidate_lineage(outcome: RunOutcome, reference: str) -> Lineage:
    """Where the candidate comes from. reference: what its reference was counted on, in words ("": it has none)."""
    definition = outcome.definition
    parameters: dict[str, Any] = {
        "rounds": outcome.rounds,
        "devices": len(outcome.cohort),
        "cohort_sha256": cohort_digest(outcome.cohort),
        "definition_sha256": definition_digest(definition),
        "strategy": {"name": definition.strategy.name, **definition.strategy.parameters},
        "privacy": None if outcome.privacy_spent is None else msgspec.to_builtins(outcome.privacy_spent),
        "bytes_up": outcome.bytes_up,
        "bytes_down": outcome.bytes_down,
    }
    if outcome.evaluation is not None:
        parameters["evaluation"] = msgspec.to_builtins(outcome.evaluation)
    if reference:
        parameters["reference"] = reference
    return Lineage(
        data_name=f"samples of {len(outcome.cohort)} devices",
        code_revision=f"skerry {__version__}",
        parent_version=outcome.base_version,
        training_run=outcome.run_id,
        parameters=parameters,
    )


def write_card(outcome: RunOutcome, version: int, base_card: str) -> str:
    """The candidate's card: what the run did, and below it what the first card of the line said."""
    definition, base = outcome.definition, outcome.base_version
    settings = "".join(f", {name} {value:g}" for name, value in sorted(definition.strategy.parameters.items()))
    what = (
        f"Trained on {len(outcome.cohort)} devices from version {base}, in {outcome.rounds} rounds (run "
        f"{outcome.run_id}, {definition.strategy.name}{settings}). Only the head's weights are new; the extractor is "
        f"that of version {base}, byte for byte."
    )
    lines = [f"# {definition.model} {version}", "", what, "", _privacy(outcome), ""]
    lines += _evaluation(outcome.evaluation, base)
    if definition.note:
        lines += ["", definition.note]
    text = "\n".join(lines)
    before = _BEFORE + base_card.split(_BEFORE, 1)[1] if _BEFORE in base_card else f"{_BEFORE}{base}\n\n{base_card}"
    if not base_card:
        return text + "\n"
    room = MAX_CARD_BYTES - len(text.encode()) - 1
    return text + before.encode()[:room].decode("utf-8", "ignore").rstrip() + "\n"


def _privacy(outcome: RunOutcome) -> str:
    spent = outcome.privacy_spent
    if spent is None:
        return "No differential privacy: the hub saw the update of each device."
    seen = "saw sums of updates only" if spent.secure_aggregation else "saw the update of each device"
    if spent.mode == "none":
        return f"No differential privacy; the hub {seen}."
    return f"Differential privacy ({spent.mode}): epsilon {spent.epsilon:.3g} at delta {spent.delta:g}; the hub {seen}."


def _evaluation(evaluation: Evaluation | None, base: int) -> list[str]:
    if evaluation is None:
        return ["Not evaluated on devices."]
    whole = evaluation.whole
    of = f"{whole.devices} of {evaluation.asked} devices"
    lines = [f"On {whole.examples} held-out samples of {of}, beside version {base}:", ""]
    lines += ["| where | devices | samples | accuracy | before |", "|---|---|---|---|---|"]
    lines += [_row(part.name or "all", part) for part in (whole, *evaluation.profiles, *evaluation.groups)]
    worst = evaluation.worst
    return [*lines, "", f"Worst: {worst.name}, {worst.accuracy:.3f}."] if worst.name else lines


def _row(name: str, part: Slice) -> str:
    return f"| {name} | {part.devices} | {part.examples} | {part.accuracy:.3f} | {part.base_accuracy:.3f} |"


def candidate_manifest(
    base: Manifest,
    version: int,
    lineage: Lineage,
    changed: Mapping[str, bytes],
    named: Mapping[str, str | None],
) -> Manifest:
    """The base's manifest with another number and lineage.

    changed: new bytes by path. named: where `reference`, `calibration` and `card` stand now (None: it is gone); what is
    not in it stays as it is.
    """
    gone = {getattr(base, role) for role, path in named.items() if path is None}
    files = [
        _entry(entry.path, entry.role, changed[entry.path]) if entry.path in changed else entry
        for entry in base.files
        if entry.path not in gone
    ]
    known = {entry.path for entry in files}
    files += [
        _entry(path, _ROLES[role], changed[path])
        for role, path in named.items()
        if path is not None and path not in known
    ]
    return msgspec.structs.replace(base, version=version, lineage=lineage, files=files, **named)


def _entry(path: str, role: Role, data: bytes) -> FileEntry:
    return FileEntry(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), role=role)
