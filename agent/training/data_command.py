"""`skerry-agent data show|erase`: what this device keeps of its own data, and its destruction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec

from agent.identity.owner import hand_over
from agent.output import columns
from agent.paths import AgentPaths
from agent.settings import ENVIRONMENT_PREFIX, AgentSettings
from agent.training.buffer import SampleBuffer
from agent.training.settings import SampleSettings
from shared import durable
from shared.clock import Clock, SystemClock
from shared.errors import Forbidden, StorageFailure
from shared.settings import load_settings

__all__ = ["Data", "KeptClass", "count", "data_lines", "erase", "show"]

_DAY_S = 86400.0


class KeptClass(msgspec.Struct, frozen=True, kw_only=True):
    """One class of one model. age_s: of the oldest sample; None while no clock could be believed."""

    model: str
    label: int
    space: str
    samples: int
    seen: int
    bytes: int
    age_s: float | None


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """All that is kept. lost: damaged records; dropped: samples for which there was no room."""

    enabled: bool
    samples: int
    bytes: int
    file_bytes: int
    max_count: int
    max_bytes: int
    retention_days: float
    lost: int
    dropped: int
    classes: list[KeptClass]


@contextmanager
def _allowed() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise Forbidden(
            "samples.no_access",
            "You may not read what this device keeps.",
            hint="Use sudo, or the account that runs the agent.",
        ) from error


def _buffer(paths: AgentPaths, clock: Clock) -> tuple[SampleBuffer, SampleSettings]:
    file = paths.settings if paths.settings.exists() else None
    settings = load_settings(AgentSettings, file, ENVIRONMENT_PREFIX, {}).samples
    return SampleBuffer(paths.samples, settings, clock), settings


def show(paths: AgentPaths, clock: Clock | None = None) -> Data:
    """What is kept; errors `samples.no_access`, `storage.*`, `settings.*`."""
    clock = clock or SystemClock()
    with _allowed():
        buffer, settings = _buffer(paths, clock)
        classes, kept = buffer.counts()
    now_s = clock.now()
    return Data(
        enabled=settings.enabled,
        samples=kept.samples,
        bytes=kept.bytes,
        file_bytes=kept.file_bytes,
        max_count=settings.max_count,
        max_bytes=settings.max_bytes,
        retention_days=settings.retention_days,
        lost=kept.lost,
        dropped=kept.dropped,
        classes=[
            KeptClass(
                model=one.model,
                label=one.label,
                space=one.space,
                samples=one.samples,
                seen=one.seen,
                bytes=one.bytes,
                age_s=max(0.0, now_s - one.oldest_s) if one.oldest_s else None,
            )
            for one in classes
        ],
    )


def data_lines(data: Data) -> Iterable[str]:
    """The same for people."""
    yield f"{data.samples} of {data.max_count} samples, {data.bytes} bytes; the file has {data.file_bytes}."
    yield f"They are kept for {data.retention_days:g} days" + ("." if data.enabled else ", and no more are taken.")
    if data.lost or data.dropped:
        yield f"{data.lost} damaged records were lost, {data.dropped} samples dropped for want of room."
    if data.classes:
        yield ""
        rows = [
            (one.model, one.label, one.samples, one.seen, one.bytes, "?" if one.age_s is None else _days(one.age_s))
            for one in data.classes
        ]
        yield from columns(("model", "class", "samples", "seen", "bytes", "oldest"), rows)


def _days(age_s: float) -> str:
    return f"{age_s / _DAY_S:.1f} days" if age_s >= _DAY_S else f"{age_s / 3600:.1f} hours"


def count(paths: AgentPaths) -> int | None:
    """How many samples are kept; None when the disk does not say. Error `samples.no_access`."""
    try:
        return show(paths).samples
    except StorageFailure:
        return None


def erase(paths: AgentPaths) -> None:
    """Destroy all of it, and what was learnt from it here; errors `samples.no_access`, `samples.erase`, `storage.*`."""
    with _allowed():
        _buffer(paths, SystemClock())[0].erase()
        for learnt in [*paths.training.glob("residual-*"), *paths.training.glob("personal-*")]:
            durable.remove(learnt)
        hand_over(paths.root)
