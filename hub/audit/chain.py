"""The hash chain, pure: each entry's hash covers its content and the hash of the entry before it.

Changing, removing, inserting or reordering an entry breaks the chain at that entry. Cutting off the newest entries
does not; for that, keep a head (number and hash) somewhere else and have it checked (`known`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from hub.store.audit import AuditRow
from shared import canonical

__all__ = ["GENESIS", "Verdict", "check_chain", "entry_hash", "linked"]

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check found. `broken_seq`: the first entry that does not hold; `head_*`: the last one that does."""

    intact: bool
    entries: int
    head_seq: int
    head_hash: str
    broken_seq: int | None = None
    problem: str = ""


def entry_hash(row: AuditRow) -> str:
    """The hash that an entry must have, in hex."""
    content = {
        "seq": row.seq,
        "at_s": row.at_s,
        "actor": row.actor,
        "action": row.action,
        "subject": row.subject,
        "detail": row.detail,
        "previous_hash": row.previous_hash,
    }
    return hashlib.sha256(canonical.dumps(content)).hexdigest()


def linked(row: AuditRow) -> AuditRow:
    """The entry with its hash filled in."""
    return replace(row, hash=entry_hash(row))


def _problem(row: AuditRow, seq: int, previous_hash: str) -> str:
    if row.seq != seq:
        return f"entry {seq} is missing"
    if row.previous_hash != previous_hash:
        return "it does not follow the entry before it"
    if row.hash != entry_hash(row):
        return "its content was changed"
    return ""


def check_chain(rows: Iterable[AuditRow], known: tuple[int, str] | None = None) -> Verdict:
    """Check entries in order, from the first one on. `known` is a head (number, hash) noted earlier."""
    seq, previous = 0, GENESIS
    for row in rows:
        problem = _problem(row, seq + 1, previous)
        if not problem and known is not None and known[0] == row.seq and known[1] != row.hash:
            problem = "it is not the entry that was noted"
        if problem:
            return Verdict(
                intact=False, entries=seq, head_seq=seq, head_hash=previous, broken_seq=seq + 1, problem=problem
            )
        seq, previous = row.seq, row.hash
    if known is not None and known[0] > seq:
        return Verdict(
            intact=False,
            entries=seq,
            head_seq=seq,
            head_hash=previous,
            broken_seq=seq + 1,
            problem=f"entries up to {known[0]} were noted and are gone",
        )
    return Verdict(intact=True, entries=seq, head_seq=seq, head_hash=previous)
