"""Taking one key out of root, targets and every model's role: which roles change, in what order, and who signs next.

Everything starts from the verified repository. A role that could not reach its threshold any more stops the whole
change before anything is proposed. What the old signatures no longer carry is proposed again as well: the targets
when holders change, a model's releases when its reviewers do; the hub publishes what belongs together in one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Root, Targets

from hub.cli.offline_changes import DAY_S, submit
from hub.cli.repository_view import open_view
from hub.cli.session import Session
from hub.trust import metadata
from hub.trust.metadata import Quorum
from hub.trust.names import delegator_of, role_model, role_of
from shared.errors import Conflict, NotFound

__all__ = ["Revocation"]

_WAYS = {"root": "`skerry keys rotate root --threshold N`", "targets": "`skerry keys rotate root --threshold N`"}


class Revocation:
    """One key's end. `names` by key id are for people."""

    def __init__(
        self, session: Session, key_id: str, replacement: Key | None, days: int, names: Mapping[str, str]
    ) -> None:
        self._session = session
        self._names = names
        self._replacement = replacement
        self._view = open_view(session)
        self._expires_s = session.now() + days * DAY_S
        root = metadata.parse(self._view.root, Root).signed
        targets = metadata.parse(self._view.targets, Targets).signed
        roles = {"root": metadata.quorum_of(root, "root"), "targets": metadata.quorum_of(root, "targets")}
        for role in (targets.delegations.roles or {}) if targets.delegations else {}:
            roles[role] = metadata.quorum_of(targets, role)
        self._old = roles
        self.key_id = self._found(key_id, metadata.quorum_of(root, "timestamp").key_ids)
        self._new = {role: self._without(role, old) for role, old in roles.items() if self.key_id in old.key_ids}
        self._data = self._proposals()
        self._check_free()

    # --- what is to change ------------------------------------------------------------------------------------------
    def _found(self, wanted: str, online: Sequence[str]) -> str:
        known = {key_id for quorum in self._old.values() for key_id in quorum.key_ids}
        found = sorted(key_id for key_id in known if key_id.startswith(wanted))
        if len(found) == 1:
            return found[0]
        if any(key_id.startswith(wanted) for key_id in online):
            raise Conflict(
                "keys.online", "This is the hub's own key.", hint="`skerry keys rotate online` replaces it."
            )
        text = "is not used by any role" if not found else "is the beginning of several key ids"
        raise NotFound(
            "keys.not_used", f"The key {wanted[:16]}… {text}.", hint="`skerry keys list --all` shows all that are used."
        )

    def _without(self, role: str, old: Quorum) -> Quorum:
        left = [key for key in old.keys if key.keyid != self.key_id]
        new = self._replacement
        if new is not None and new.keyid not in {key.keyid for key in left}:
            left.append(new)
        if len(left) < old.threshold:
            way = _WAYS.get(role, f"`skerry keys rotate reviewers {role_model(role)} --threshold N`")
            raise Conflict(
                "keys.unsignable",
                f"Without this key {role} could not be signed: {old.threshold} must sign, {len(left)} would be left.",
                hint=f"Give --replace-with NEW.pub, or lower the threshold first: {way}.",
                detail={"role": role, "threshold": old.threshold, "left": len(left)},
            )
        return Quorum(tuple(left), old.threshold)

    def _proposals(self) -> dict[str, bytes]:
        """Unsigned next versions by role, in the order in which they are proposed."""
        found: dict[str, bytes] = {}
        if "root" in self._new or "targets" in self._new:
            found["root"] = metadata.revise_root(
                self._view.root,
                root=self._new.get("root"),
                targets=self._new.get("targets"),
                expires_s=self._expires_s,
            )
        models = {model: self._new[role_of(model)] for model in map(role_model, self._new) if model is not None}
        if models:
            found["targets"] = metadata.revise_targets(self._view.targets, models=models, expires_s=self._expires_s)
        elif "targets" in self._new and not metadata.carries(self._view.targets, self._new["targets"]):
            found["targets"] = metadata.renew(self._view.targets, expires_s=self._expires_s)
        for model, quorum in models.items():
            release = self._view.role(role_of(model))
            if release is not None and not metadata.carries(release, quorum):
                found[role_of(model)] = metadata.renew(release, expires_s=self._expires_s)
        return found

    def _check_free(self) -> None:
        waiting = {item["role"] for item in self._session.client.get("/v1/trust/status")["staged"]}
        for role in self._data:
            if role in waiting:
                raise Conflict(
                    "release.busy",
                    f"Another change is waiting for signatures in {role}.",
                    hint=f"Sign it, or withdraw it: `skerry trust withdraw {role}`.",
                )

    # --- proposing --------------------------------------------------------------------------------------------------
    def words(self) -> list[str]:
        """What would be proposed, one line each."""
        lines = [f"The key {self._name(self.key_id)} is taken out of:"]
        for role, new in self._new.items():
            spare = len(new.keys) - new.threshold
            warning = "" if spare else "; no further key may be lost"
            lines.append(f"  {role}: {new.threshold} of {len(new.keys)} sign from now on{warning}")
        for role, old in self._old.items():
            if role == "root" and role in self._new and len(old.keys) - 1 < old.threshold:
                lines.append("  Its own signature is needed for that once more: without it the root cannot be changed.")
        again = [role for role in self._data if role not in self._new]
        lines += [f"  {role} is signed again, because its signatures count no more" for role in again]
        return lines

    def propose(self, signers: Sequence[Signer]) -> dict[str, Any]:
        """Propose everything, signed by those of `signers` who may; what waits then, and for whom."""
        for role, data in self._data.items():
            allowed = {*self._old[role].key_ids, *self._new.get(role, self._old[role]).key_ids}
            able = [signer for signer in signers if signer.public_key.keyid in allowed]
            together = (delegator_of(role) or "") in self._data
            note = f"key {self.key_id[:12]} revoked"
            submit(self._session, role, data, able, note=note, together=together)
        staged = {item["role"]: item for item in self._session.client.get("/v1/trust/status")["staged"]}
        roles = [self._role_answer(role, staged.get(role)) for role in self._data]
        return {"key_id": self.key_id, "roles": roles}

    def _role_answer(self, role: str, staged: Mapping[str, Any] | None) -> dict[str, Any]:
        if staged is None:
            return {"role": role, "published": True, "missing": 0, "signers": []}
        able: set[str] = set()
        for item in staged["requirements"]:
            lacking = item["threshold"] - len(item["signed"])
            left = set(item["key_ids"]) - set(item["signed"])
            if lacking > 0:
                able |= left if len(left) <= lacking else left - {self.key_id}
        signers = [{"key_id": key_id, "name": self._names.get(key_id)} for key_id in sorted(able)]
        return {"role": role, "published": False, "missing": staged["missing"], "signers": signers}

    def outcome_words(self, answer: Mapping[str, Any]) -> list[str]:
        """What `propose` answered, for people."""
        lines = []
        for role in answer["roles"]:
            name = role["role"]
            if role["published"]:
                lines.append(f"{name} is published without the key.")
            elif role["missing"]:
                who = ", ".join(self._name(signer["key_id"]) for signer in role["signers"])
                lines.append(
                    f"{name} waits for {role['missing']} of: {who}. Each: `skerry trust sign {name} --key NAME.key`"
                )
            else:
                lines.append(f"{name} has its signatures and is published together with what still waits.")
        return lines

    def _name(self, key_id: str) -> str:
        name = self._names.get(key_id)
        return f"{name} ({key_id[:12]}…)" if name else f"{key_id[:12]}…"

