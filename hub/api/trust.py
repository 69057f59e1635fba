"""The trust API: bootstrap, what waits for signatures, signatures, and the TUF repository itself.

Metadata travels as text inside JSON, so the bytes that were signed arrive unchanged. A token lets someone talk to the
hub; what counts is the signature. The repository under `/v1/tuf` is for devices and for people who read.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from securesystemslib.signer import Key

from hub.access.permissions import Permission
from hub.access.principal import DevicePrincipal, Principal
from hub.api.artefacts import serve_blob
from hub.api.auth import HubDep, RequireEither, require
from hub.api.words import NO_NUL
from hub.trust.names import parse_role, role_model, split_target_file
from hub.trust.staging import TOGETHER, Outcome
from hub.wiring import Hub
from shared.errors import NotFound
from shared.limits import MIB

__all__ = ["BODY_LIMITS", "router"]

router = APIRouter(tags=["trust"])
_METADATA_BODY_BYTES = 12 * MIB
BODY_LIMITS = {
    ("POST", "/v1/trust/bootstrap"): _METADATA_BODY_BYTES,
    ("PUT", "/v1/trust/staged/{role}"): _METADATA_BODY_BYTES,
}
Reader = Annotated[Principal, Depends(require(Permission.TRUST_READ))]
Stager = Annotated[Principal, Depends(require(Permission.RELEASES_STAGE))]
Signing = Annotated[Principal, Depends(require(Permission.RELEASES_SIGN))]
Admin = Annotated[Principal, Depends(require(Permission.TRUST_ADMIN))]
TufReader = Annotated[Principal | DevicePrincipal, Depends(RequireEither(Permission.TRUST_READ))]
Text = Annotated[str, Field(max_length=6 * MIB)]
Files = Annotated[dict[str, Text], Field(max_length=4)]


class PublicKey(BaseModel):
    """A public key as TUF writes it."""

    key_id: str
    key: dict[str, Any]


class OnlineKeysAnswer(BaseModel):
    """The hub's online keys; `…_next` waits for a rotation to be signed."""

    online: PublicKey
    assignment: PublicKey
    online_next: PublicKey | None
    assignment_next: PublicKey | None


class Bootstrap(BaseModel):
    """The first root and targets, signed, and the target files that targets describe, by path."""

    model_config = ConfigDict(extra="forbid")
    root: Text
    targets: Text
    files: Files = {}


class Proposal(BaseModel):
    """The next version of a role, signed or not yet, and the target files that it describes.

    `together`: not before the staged change of the role that appoints its signers.
    """

    model_config = ConfigDict(extra="forbid")
    metadata: Text
    files: Files = {}
    note: Annotated[str, Field(max_length=200, pattern=NO_NUL)] = ""
    together: bool = False


class SignatureBody(BaseModel):
    """A signature (hex) over the staged version, by the key with this id."""

    model_config = ConfigDict(extra="forbid")
    version: Annotated[int, Field(ge=1)]
    key_id: Annotated[str, Field(max_length=128)]
    signature: Annotated[str, Field(max_length=16_384)]


class RequirementAnswer(BaseModel):
    """One threshold: who was appointed, by published or staged metadata, and who has signed."""

    appointed_by: str
    threshold: int
    key_ids: list[str]
    signed: list[str]


class OutcomeAnswer(BaseModel):
    """A role that waits for signatures, or was just published. `metadata` is the exact text to be signed."""

    role: str
    version: int
    metadata: str
    context: dict[str, Any]
    requirements: list[RequirementAnswer]
    missing: int
    published: bool
    waiting_for: str
    staged_by: str
    staged_s: float


class RoleAnswer(BaseModel):
    """One published role."""

    role: str
    version: int
    expires_s: float
    threshold: int
    key_ids: list[str]


class StatusAnswer(BaseModel):
    """The repository at a glance."""

    initialised: bool
    roles: list[RoleAnswer]
    staged: list[OutcomeAnswer]


def _key(key: Key) -> PublicKey:
    return PublicKey(key_id=key.keyid, key=key.to_dict())


def _outcome(outcome: Outcome) -> OutcomeAnswer:
    return OutcomeAnswer(
        role=outcome.role,
        version=outcome.version,
        metadata=outcome.data.decode(),
        context=dict(outcome.context),
        requirements=[
            RequirementAnswer(
                appointed_by=requirement.appointed_by,
                threshold=requirement.threshold,
                key_ids=list(requirement.key_ids),
                signed=list(requirement.signed),
            )
            for requirement in outcome.requirements
        ],
        missing=outcome.missing,
        published=outcome.published,
        waiting_for=outcome.waiting_for,
        staged_by=outcome.staged_by,
        staged_s=outcome.staged_s,
    )


def _told(hub: Hub, outcome: Outcome) -> OutcomeAnswer:
    """The answer; what was published may have changed what devices should have."""
    if outcome.published:
        hub.publications.wake()
    return _outcome(outcome)


def _scoped(principal: Principal, role: str, *, change: bool) -> str:
    """The role's name, if the caller may see or change it: root and targets are for the administrators of trust."""
    name = parse_role(role)
    model = role_model(name)
    if model is not None:
        principal.check_model(model)
    if change:
        principal.check(Permission.TRUST_ADMIN if model is None else Permission.RELEASES_STAGE)
    return name


def _encoded(files: dict[str, str]) -> dict[str, bytes]:
    return {path: text.encode() for path, text in files.items()}


@router.get("/v1/trust/status")
def trust_status(hub: HubDep, _principal: Reader) -> StatusAnswer:
    """Published roles with their keys and expiry, and what waits for signatures."""
    status = hub.trust.status()
    return StatusAnswer(
        initialised=status.initialised,
        roles=[
            RoleAnswer(
                role=role.role,
                version=role.version,
                expires_s=role.expires_s,
                threshold=role.threshold,
                key_ids=list(role.key_ids),
            )
            for role in status.roles
        ],
        staged=[_outcome(outcome) for outcome in status.staged],
    )


@router.get("/v1/trust/online-keys")
def online_keys(hub: HubDep, _principal: Reader) -> OnlineKeysAnswer:
    """The public keys that a root and the list of assignment keys must name."""
    keys = hub.trust.online_keys()
    return OnlineKeysAnswer(
        online=_key(keys.online),
        assignment=_key(keys.assignment),
        online_next=_key(keys.online_next) if keys.online_next else None,
        assignment_next=_key(keys.assignment_next) if keys.assignment_next else None,
    )


@router.post("/v1/trust/online-keys/{name}/next", status_code=201)
def prepare_online_key(
    hub: HubDep, name: Annotated[str, Path(description="`online` or `assignment`.")], principal: Admin
) -> PublicKey:
    """Make the hub's next key of that name; it is used once signed metadata names it."""
    return _key(hub.trust.prepare_online_key(name, principal.name))


@router.post("/v1/trust/bootstrap", status_code=201)
def bootstrap(hub: HubDep, body: Bootstrap, principal: Admin) -> StatusAnswer:
    """Publish the first root and targets."""
    hub.trust.bootstrap(body.root.encode(), body.targets.encode(), _encoded(body.files), principal.name)
    return trust_status(hub, principal)


@router.get("/v1/trust/staged/{role}")
def staged(hub: HubDep, role: str, principal: Reader) -> OutcomeAnswer:
    """What waits for signatures in a role."""
    return _outcome(hub.trust.staged(_scoped(principal, role, change=False)))


@router.put("/v1/trust/staged/{role}")
def propose(hub: HubDep, role: str, body: Proposal, principal: Stager) -> OutcomeAnswer:
    """Stage the next version of a role; signatures that it carries count at once."""
    name = _scoped(principal, role, change=True)
    context: dict[str, Any] = {"note": body.note} if body.note else {}
    if body.together:
        context[TOGETHER] = True
    data, files = body.metadata.encode(), _encoded(body.files)
    return _told(hub, hub.trust.propose(name, data, principal.name, files=files, context=context))


@router.delete("/v1/trust/staged/{role}", status_code=204)
def withdraw(hub: HubDep, role: str, principal: Stager) -> None:
    """Take back what is staged, with the signatures that it has."""
    hub.trust.withdraw(_scoped(principal, role, change=True), principal.name)


@router.post("/v1/trust/staged/{role}/signatures")
def add_signature(hub: HubDep, role: str, body: SignatureBody, principal: Signing) -> OutcomeAnswer:
    """Count a signature; the one that completes the threshold publishes."""
    name = _scoped(principal, role, change=False)
    return _told(hub, hub.trust.add_signature(name, body.version, body.key_id, body.signature, principal.name))


@router.post("/v1/models/{model}/versions/{version}/release")
def stage_release(hub: HubDep, model: str, version: int, principal: Stager) -> OutcomeAnswer:
    """Put a version that passed its gate before the reviewers."""
    return _outcome(hub.trust.stage_release(model, version, principal.name))


@router.get("/v1/tuf/{filename}", response_class=Response)
def tuf_metadata(hub: HubDep, filename: str, _reader: TufReader) -> Response:
    """TUF metadata: `timestamp.json` or `N.role.json`."""
    return Response(hub.trust.published(filename), media_type="application/json")


@router.get("/v1/tuf/targets/{folder}/{filename}", response_class=Response)
def tuf_target(hub: HubDep, folder: str, filename: str, reader: TufReader, request: Request) -> Response:
    """A target file under its consistent-snapshot name. A device gets bundles that it may fetch as artefacts too."""
    path, digest = split_target_file(folder, filename)
    if not hub.trust.is_bundle(path, digest):
        return Response(hub.trust.target_file(path, digest), media_type="application/octet-stream")
    allowed = (
        hub.assignments.is_entitled(reader.device_id, digest)
        if isinstance(reader, DevicePrincipal)
        else reader.models is None or folder in reader.models
    )
    if not allowed:
        raise NotFound("trust.no_such_target", "There is no such target file.")
    return serve_blob(hub.blobs, digest, request)
