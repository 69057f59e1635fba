"""From an envelope to a decision: refresh the release metadata, open the assignment, compare the two."""

from __future__ import annotations

from collections.abc import Mapping

from agent.ota import assignment as rules
from agent.ota.counters import highest_under
from agent.ota.update_client import UpdateClient
from agent.ota.worker_protocol import Checked
from shared import dsse, limits
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, MAX_ASSIGNMENT_KEYS_BYTES, parse_assignment_keys
from shared.errors import SkerryError, Untrusted
from shared.wire.down import ASSIGNMENT_PAYLOAD_TYPE, Assignment

__all__ = ["decide"]


def decide(client: UpdateClient, envelope: bytes, device_id: str, floors: Mapping[str, Mapping[str, int]]) -> Checked:
    """Whether the assignment in `envelope` may be installed now. `floors`: counters used up by model and key id.

    Raises what makes it nobody's (`dsse.*`, `assignment.malformed|other_device|target|replayed`) and what keeps from
    deciding (`trust.*`, `hub.*`). Returns with a `refusal` what is the hub's own but must not be installed
    (`assignment.expired`, `release.*`).
    """
    client.refresh()
    keys = parse_assignment_keys(client.target_bytes(ASSIGNMENT_KEYS_PATH, MAX_ASSIGNMENT_KEYS_BYTES))
    assignment = rules.open_assignment(envelope, keys, device_id)
    rules.check_counter(assignment, highest_under(floors.get(assignment.model, {}), keys))
    keyids = dsse.signers(envelope, ASSIGNMENT_PAYLOAD_TYPE, keys, limits.MAX_ASSIGNMENT_BYTES)
    try:
        rules.check_fresh(assignment, client.now_s)
        rules.check_release(assignment, _release(client, assignment))
    except Untrusted as error:
        return Checked(assignment=assignment, refusal=error.body(), keyids=keyids)
    return Checked(assignment=assignment, keyids=keyids)


def _release(client: UpdateClient, assignment: Assignment) -> rules.Release | None:
    """What the reviewers signed about the assigned target; metadata of that model's role may itself be refused."""
    try:
        info = client.target(assignment.target)
    except Untrusted as error:
        raise _unusable(error) from error
    if info is None:
        return None
    return rules.Release(target=info.path, bytes=info.length, sha256=info.hashes.get("sha256", ""))


def _unusable(error: SkerryError) -> Untrusted:
    return Untrusted(f"release.{error.code.rpartition('.')[2]}", error.message, hint=error.hint)
