"""What the agent keeps: identity, release metadata, outbox, installed versions, what went wrong lately."""

from __future__ import annotations

import sqlite3
import stat
import time
from contextlib import closing
from datetime import UTC, datetime

import msgspec

from agent.doctor.subject import Reporter, Subject
from agent.ota import history, journal
from agent.ota.installation import NO_BLAME
from agent.ota.machine import State
from agent.ota.slots import Slots
from shared import durable, ids, limits
from shared.errors import InvalidInput, NotFound, SkerryError

__all__ = ["check_identity", "check_installs", "check_outbox", "check_releases", "check_slots"]

_RENEWAL_SHARE = 0.85
_FULL_SHARE = 0.8
_RECENT_COUNT = 1


class _Signed(msgspec.Struct):
    version: int
    expires: datetime


class _Timestamp(msgspec.Struct):
    signed: _Signed


def check_identity(subject: Subject, report: Reporter) -> None:
    """Key and certificate belong together, are this device's, and are valid for a while."""
    from agent.identity.keys import check_certificate

    identity, credentials = subject.identity, subject.store.credentials()
    if stat.S_IMODE(credentials.key.stat().st_mode) & 0o077:
        report.problem("key_open", "Others may read this device's private key.", f"chmod 600 {credentials.key}")
    key = durable.read_file(credentials.key, limit=limits.MAX_KEY_FILE_BYTES)
    certificate = durable.read_file(credentials.certificate, limit=limits.MAX_KEY_FILE_BYTES)
    valid = check_certificate(certificate, key, identity.device_id)
    now_s = subject.clock.now()
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(valid.not_after_s))
    if now_s >= valid.not_after_s:
        report.problem(
            "certificate_ended",
            f"The device's certificate ended on {until}, so the hub refuses it.",
            "Check the clock; if it is right, enrol again with `skerry-agent enrol --replace`.",
        )
    elif now_s < valid.not_before_s:
        report.problem("certificate_early", "The device's certificate is not valid yet.", "Set the clock.")
    elif now_s > valid.not_before_s + _RENEWAL_SHARE * (valid.not_after_s - valid.not_before_s):
        report.warn(
            "certificate_due",
            f"The certificate ends on {until} and should have been renewed by now.",
            "The agent renews it when it reaches the hub over HTTPS; see that check.",
        )
    if not report.findings:
        report.fine(f"This device is {identity.device_id}; its certificate is valid until {until}.")


def check_releases(subject: Subject, report: Reporter) -> None:
    """There is a root to trust, and the release metadata is not old."""
    tuf = subject.paths.tuf
    if not (tuf / "root.json").is_file():
        report.problem(
            "no_root", "This device has no root of trust, so nothing installs.", "Enrol it again: `skerry-agent enrol`."
        )
        return
    try:
        data = durable.read_file(tuf / "timestamp.json", limit=limits.MAX_TIMESTAMP_BYTES)
        signed = msgspec.json.decode(data, type=_Timestamp).signed
    except NotFound:
        report.note("never_refreshed", "No release metadata was fetched yet; the first assignment does that.")
        return
    except msgspec.DecodeError:
        report.warn("metadata_damaged", "The kept release metadata is damaged.", "It is fetched again when needed.")
        return
    age_s = subject.clock.now() - signed.expires.replace(tzinfo=UTC).timestamp()
    if age_s > 0:
        report.note(
            "metadata_old",
            f"The release metadata (version {signed.version}) expired {age_s / 86400:.1f} days ago.",
            "It is fetched again with the next assignment, if the hub is reachable by then.",
        )
        return
    report.fine(f"Release metadata version {signed.version} is current.")


def check_outbox(subject: Subject, report: Reporter) -> None:
    """What waits to be told fits, and nothing was given up."""
    path = subject.paths.outbox
    if not path.exists():
        report.note("no_outbox", "The agent has not run yet, so there is no outbox.")
        return
    limit = subject.settings.outbox_bytes or subject.profile.outbox_bytes
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2.0)) as database:
            count, size = database.execute("SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM messages").fetchone()
            dropped = database.execute("SELECT dropped_count FROM meta WHERE id = 1").fetchone()[0]
    except (sqlite3.Error, TypeError) as error:
        report.problem(
            "outbox_damaged", f"The outbox cannot be read: {error}.", "The agent starts a new one when it starts."
        )
        return
    if size > _FULL_SHARE * limit:
        report.warn(
            "outbox_full",
            f"{count} messages ({100 * size // limit} % of the room) wait; the oldest telemetry goes first.",
            "See the checks of HTTPS and MQTT.",
        )
    if dropped:
        report.note("outbox_dropped", f"{dropped} messages were given up since the outbox was made.")
    if not report.findings:
        report.fine(f"{count} messages wait for the hub.")


def check_slots(subject: Subject, report: Reporter) -> None:
    """Every model has an active version of which every byte is what was installed."""
    for model in _models(subject):
        slots = Slots(subject.paths.model(model))
        active, found = slots.active(), journal.load(subject.paths.model(model).journal, model)
        if active is None:
            serious = found.at in (State.COMMITTED, State.INCONSISTENT) or bool(slots.records())
            level = report.problem if serious else report.note
            level(
                "no_version", f"{model} has no active version.", "Deploy a version to this device." if serious else ""
            )
            continue
        try:
            record = slots.verify(active)
        except SkerryError as error:
            report.problem(
                "slot_damaged",
                f"{model}: {error.message}",
                "Start the agent: it returns to the version before. If the disk is worn, replace it.",
            )
            continue
        report.fine(f"{model} {record.version} is whole.")
        if found.at is State.INCONSISTENT:
            report.problem(
                "inconsistent",
                f"{model}: the way back from a failed version failed too: {found.reason}",
                "Deploy a good version to this device.",
            )
    if not report.findings:
        report.note("no_models", "No model is installed yet.")


def check_installs(subject: Subject, report: Reporter) -> None:
    """How the last installation of each model ended."""
    for model in _models(subject):
        past = history.entries(subject.paths.model(model).root / "history.json")
        for entry in past[-_RECENT_COUNT:]:
            if entry.state == State.COMMITTED or entry.reason_code in NO_BLAME:
                continue
            when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(entry.ended_s))
            report.warn(
                "install_failed",
                f"{model} {entry.version} was not installed on {when}: {entry.reason or entry.event} "
                f"[{entry.reason_code or entry.state}]",
                "The version before it still serves; deploy a corrected one."
                if entry.active_version is not None
                else "Deploy a corrected version.",
            )
    if not report.findings:
        report.fine("The last installations went well.")


def _models(subject: Subject) -> list[str]:
    """The models with a folder here."""
    folder, found = subject.paths.models, []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            found.append(ids.parse_model_name(entry.name))
        except InvalidInput:
            continue  # not a model's folder
    return found
