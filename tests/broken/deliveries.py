"""The table of broken deliveries: what arrives, and the reason with which a device must refuse it.

`deliver` prepares repository and hub and gives the envelope that the device is offered. `installs`: the delivery is
genuine enough to begin an installation, which then fails and is reported as such; otherwise it is refused at the door
with an event. `settings`, `profile`: what the device is like.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.broken import hostile_models
from tests.broken.forge import archived, header, with_extractor, with_manifest
from tests.ota.conftest import bundle
from tests.ota.hub_sim import ARTEFACT, DEVICE, HubSim
from tests.trust_kit import KitVersion, TrustKit

__all__ = ["DELIVERIES", "Delivery"]

MODEL = "digits"
Deliver = Callable[[TrustKit, HubSim], bytes]


@dataclass(frozen=True)
class Delivery:
    """One way in which a delivery is broken."""

    name: str
    deliver: Deliver
    codes: tuple[str, ...]
    installs: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)


def _assign(kit: TrustKit, **more: Any) -> bytes:
    return kit.assignment(more.pop("device", DEVICE), MODEL, 2, **({"counter": 2, "bake_s": 0} | more))


def _released(make: Callable[[], bytes], **more: Any) -> Deliver:
    """Signed by everybody who must, whatever it is."""

    def deliver(kit: TrustKit, hub: HubSim) -> bytes:
        del hub
        kit.approve(MODEL, 2, make())
        return _assign(kit, **more)

    return deliver


def _on_the_way(change: Callable[[bytes], bytes]) -> Deliver:
    """Released as it should be and changed on the way."""

    def deliver(kit: TrustKit, hub: HubSim) -> bytes:
        data = bundle(2)
        digest = kit.approve(MODEL, 2, data)
        hub.replace[ARTEFACT + digest] = change(data)
        return _assign(kit)

    return deliver


def _other_digest(kit: TrustKit, hub: HubSim) -> bytes:
    del hub
    kit.approve(MODEL, 2, bundle(2))
    other = bundle(3)
    kit.blobs.put(other)
    return _assign(kit, bundle=KitVersion(hashlib.sha256(other).hexdigest(), len(other)))


def _signed_by(signatures: int) -> Deliver:
    def deliver(kit: TrustKit, hub: HubSim) -> bytes:
        del hub
        kit.approve(MODEL, 2, bundle(2), signatures=signatures)
        return _assign(kit)

    return deliver


def _link(block: bytearray) -> None:
    block[156:157], block[157:168] = b"2", b"/etc/passwd"


def _escape(block: bytearray) -> None:
    name = b"../../model.tflite"
    block[0:100] = name.ljust(100, b"\0")


def _bomb(block: bytearray) -> None:
    block[124:136] = b"77777777777\0"


def _crash() -> bytes:
    return with_extractor(2, hostile_models.crashing(on_poison=False))


DELIVERIES = (
    Delivery("truncated", _on_the_way(lambda data: data[:-512]), ("hub.range", "download.truncated")),
    Delivery(
        "truncated before it was signed", _released(lambda: bundle(2)[:-1024]), ("bundle.truncated", "bundle.too_large")
    ),
    Delivery(
        "a bit flipped",
        _on_the_way(lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]),
        ("download.digest_mismatch",),
    ),
    Delivery(
        "a bit flipped before it was signed",
        _released(lambda: archived(2, lambda data: data[:9000] + bytes([data[9000] ^ 1]) + data[9001:])),
        ("bundle.entry_digest",),
    ),
    Delivery("another digest than the reviewers signed", _other_digest, ("release.mismatch",)),
    Delivery("longer than signed", _on_the_way(lambda data: data + bytes(1 << 20)), ("download.too_large",)),
    Delivery(
        "larger than the device's storage",
        _released(lambda: bundle(2)),
        ("storage.over_budget",),
        profile={"storage_bytes": 1 << 20, "outbox_bytes": 0},
    ),
    Delivery(
        "a path out of the folder",
        _released(lambda: archived(2, lambda data: header(data, "model.tflite", _escape))),
        ("bundle.unexpected_entry",),
    ),
    Delivery(
        "a path out of the folder, in the manifest",
        _released(lambda: with_manifest(2, b'"path":"model.tflite"', b'"path":"../el.tflite"')),
        ("bundle.malformed",),
    ),
    Delivery(
        "a symbolic link",
        _released(lambda: archived(2, lambda data: header(data, "model.tflite", _link))),
        ("bundle.unexpected_entry",),
    ),
    Delivery(
        "a bomb",
        _released(lambda: archived(2, lambda data: header(data, "model.tflite", _bomb))),
        ("bundle.unexpected_entry",),
    ),
    Delivery("garbage that was signed", _released(lambda: b"garbage" * 999), ("bundle.malformed",)),
    Delivery(
        "for another device", _released(lambda: bundle(2), device="pi-2"), ("assignment.other_device",), installs=False
    ),
    Delivery("replayed", _released(lambda: bundle(2), counter=1), ("assignment.replayed",), installs=False),
    Delivery("expired", _released(lambda: bundle(2), lifetime_s=-1.0), ("assignment.expired",)),
    Delivery("unsigned", _signed_by(0), ("release.not_approved",)),
    Delivery("under-signed", _signed_by(1), ("release.not_approved",)),
    Delivery("golden outputs that differ", _released(lambda: bundle(2, broken=True)), ("probe.golden_mismatch",)),
    Delivery("too slow", _released(lambda: bundle(2)), ("probe.too_slow",), profile={"latency_p99_ms": 1e-6}),
    Delivery(
        "too much memory", _released(lambda: bundle(2)), ("probe.too_much_memory",), profile={"model_memory_bytes": 1}
    ),
    Delivery(
        "a model that wants eight gibibytes",
        _released(lambda: with_extractor(2, hostile_models.greedy())),
        ("probe.refused", "probe.too_much_memory", "probe.crashed"),
    ),
    Delivery(
        "an operation that the runtime lacks",
        _released(lambda: with_extractor(2, hostile_models.unknown_op())),
        ("probe.unsupported_op",),
    ),
    Delivery("a model that crashes the runtime", _released(_crash), ("probe.crashed",)),
    Delivery(
        "a model that hangs the runtime",
        _released(lambda: with_extractor(2, hostile_models.endless())),
        ("probe.cpu_time",),
        settings={"probe_cpu_s": 2},
    ),
    Delivery(
        "a model that hangs beyond the deadline",
        _released(lambda: with_extractor(2, hostile_models.endless())),
        ("probe.timeout",),
        settings={"probe_timeout_s": 3.0},
    ),
)
