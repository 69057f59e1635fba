"""An update by delta: what it saves, and that whatever is wrong with it ends in the whole bundle, once."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from agent.identity.store import IdentityStore
from agent.ota.backoff import Backoff
from agent.ota.delta import DeltaDownload, Tried
from agent.ota.downloader import Downloader, Pace, Wanted
from agent.ota.hub_source import open_client
from agent.ota.settings import OtaSettings
from agent.ota.slots import Slots
from shared.bundle.unpacked import UnpackedArchive
from shared.clock import SystemClock
from shared.delta.format import Head, Kind, Op, Pair, pack_head, pack_op
from shared.wire.delta import DeltaOffer
from shared.wire.up import Event, InstallReport
from tests.ota.conftest import Release, bundle
from tests.ota.deltas import DELTAS, Offered, offer_delta
from tests.ota.device import QUICK, Device, PowerCut
from tests.ota.hub_sim import ARTEFACT, Fault, HubSim

Assign = Callable[..., bytes]
Update = Callable[..., Awaitable[InstallReport]]


@pytest.fixture
async def updated(hub: HubSim, device: Device, release: Release, assign: Assign) -> Update:
    """Install version 1, then take version 2 as the hub offers it; gives the last report of version 2."""
    release(1)
    release(2)

    async def run(prepare: Callable[[], object] = lambda: None, **settings: float) -> InstallReport:
        device.settings = msgspec.structs.replace(QUICK, **settings)
        async with device.run():
            await device.assign(assign(1, 1))
            await device.until_state("committed", counter=1)
            prepare()
            hub.requests.clear()
            await device.assign(assign(2, 2))
            await device.until_state("committed", counter=2)
            assert device.serves() == 2
        return device.reports()[-1]

    return run


def whole_fetched(hub: HubSim) -> int:
    """How often the whole bundle was asked for."""
    return len(hub.asked())


def warnings(device: Device) -> list[str]:
    """Codes of events about deltas."""
    return [message.code for message in device.messages if isinstance(message, Event) and message.severity == "warning"]


def downloads(device: Device) -> list[str]:
    folder = device.paths.model("digits").download
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


async def test_a_new_version_comes_as_a_delta_and_only_its_bytes_are_counted(
    hub: HubSim, device: Device, updated: Update
) -> None:
    found: list[Offered] = []
    report = await updated(lambda: found.append(offer_delta(hub, bundle(1), bundle(2))))
    assert whole_fetched(hub) == 0
    assert report.bytes_downloaded == len(found[0].delta) < 0.9 * len(bundle(2))
    assert warnings(device) == []
    assert downloads(device) == []


async def test_the_slot_made_by_a_delta_is_the_released_bundle_byte_for_byte(
    hub: HubSim, device: Device, updated: Update
) -> None:
    await updated(lambda: offer_delta(hub, bundle(1), bundle(2)))
    with UnpackedArchive(device.paths.model("digits").slots / device.active()) as slot:
        assert slot.read(0, slot.size) == bundle(2)


async def test_without_an_offer_the_whole_bundle_is_fetched_and_nobody_is_bothered(
    hub: HubSim, device: Device, updated: Update
) -> None:
    report = await updated()
    assert report.bytes_downloaded == len(bundle(2))
    assert (whole_fetched(hub), len(hub.asked(DELTAS)), warnings(device)) == (1, 1, [])


async def test_a_first_installation_asks_for_no_delta(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    async with device.run():
        await device.assign(assign(1, 1))
        await device.until_state("committed", counter=1)
    assert hub.asked(DELTAS) == []


async def test_a_delta_that_is_being_made_is_waited_for(hub: HubSim, device: Device, updated: Update) -> None:
    def prepare() -> None:
        offered = offer_delta(hub, bundle(1), bundle(2))
        hub.faults = [Fault(path=offered.ask, times=2, status=202)]

    report = await updated(prepare, delta_wait_s=5.0)
    assert whole_fetched(hub) == 0
    assert report.bytes_downloaded < len(bundle(2))


async def test_the_wait_for_a_delta_has_an_end(hub: HubSim, device: Device, updated: Update) -> None:
    def prepare() -> None:
        hub.faults = [Fault(path=DELTAS, times=1000, status=202)]

    await updated(prepare, delta_wait_s=0.0)
    assert (whole_fetched(hub), warnings(device)) == (1, [])


async def test_a_delta_whose_link_breaks_is_resumed(hub: HubSim, device: Device, updated: Update) -> None:
    def prepare() -> None:
        offered = offer_delta(hub, bundle(1), bundle(2))
        hub.faults = [Fault(path=offered.get, times=2, drop_after=5000)]

    await updated(prepare)
    ranges = [seen.range for seen in hub.asked(DELTAS) if seen.path.count("/") == 4]
    assert ranges == ["", "bytes=5000-", "bytes=10000-"]
    assert whole_fetched(hub) == 0


def damaged(data: bytes) -> bytes:
    """A delta in order whose result is another bundle."""
    return data[:-1] + bytes([data[-1] ^ 1])


def bomb(old: bytes, new: bytes) -> bytes:
    pair = Pair(
        from_sha256=hashlib.sha256(old).hexdigest(),
        from_bytes=len(old),
        to_sha256=hashlib.sha256(new).hexdigest(),
        to_bytes=len(new),
    )
    op = Op(Kind.LITERAL, 0, 0, 2**32 - 1, 8)
    return pack_head(Head(pair, 1)) + pack_op(op) + b"\x28\xb5\x2f\xfd" + b"\xff" * 4


def offer_of(hub: HubSim, **changes: object) -> None:
    offered = offer_delta(hub, bundle(1), bundle(2))
    plain = msgspec.to_builtins(msgspec.json.decode(hub.replace[offered.ask], type=DeltaOffer))
    hub.replace[offered.ask] = msgspec.json.encode(plain | changes)


BAD: dict[str, tuple[Callable[[HubSim], object], str]] = {
    "another result": (
        lambda hub: offer_delta(hub, bundle(1), bundle(2), delta=damaged(offer_delta(hub, bundle(1), bundle(2)).delta)),
        "delta.",
    ),
    "another pair": (
        lambda hub: offer_delta(hub, bundle(1), bundle(2), delta=offer_delta(hub, bundle(2), bundle(1)).delta),
        "delta.wrong_pair",
    ),
    "cut short": (
        lambda hub: offer_delta(hub, bundle(1), bundle(2), delta=offer_delta(hub, bundle(1), bundle(2)).delta[:-9]),
        "delta.truncated",
    ),
    "a bomb": (lambda hub: offer_delta(hub, bundle(1), bundle(2), delta=bomb(bundle(1), bundle(2))), "delta.malformed"),
    "noise": (lambda hub: offer_delta(hub, bundle(1), bundle(2), delta=b"\xff" * 4000), "delta.malformed"),
    "other bytes than offered": (lambda hub: offer_of(hub, sha256="0" * 64), "download.digest_mismatch"),
    "more bytes than offered": (lambda hub: offer_of(hub, bytes=100), "download.too_large"),
    "an offer that saves nothing": (lambda hub: offer_of(hub, bytes=len(bundle(2))), "delta.offer"),
    "an offer from a bundle that is not here": (lambda hub: offer_of(hub, from_sha256="0" * 64), "delta.offer"),
    "an offer for another bundle": (lambda hub: offer_of(hub, to_sha256="0" * 64), "delta.offer"),
    "an offer that is none": (lambda hub: offer_of(hub, bytes="many"), "delta.offer"),
}


@pytest.mark.parametrize("what", list(BAD))
async def test_a_bad_delta_ends_in_the_whole_bundle_once(
    hub: HubSim, device: Device, updated: Update, what: str
) -> None:
    prepare, code = BAD[what]
    report = await updated(lambda: prepare(hub))
    assert whole_fetched(hub) == 1
    assert len([seen for seen in hub.asked(DELTAS) if "?" in seen.path]) == 1
    assert len(warnings(device)) == 1
    assert warnings(device)[0].startswith(code)
    assert report.bytes_downloaded >= len(bundle(2))
    assert downloads(device) == []


async def test_a_damaged_slot_gives_no_delta_but_the_update_comes(hub: HubSim, device: Device, updated: Update) -> None:
    def prepare() -> None:
        offer_delta(hub, bundle(1), bundle(2))
        labels = device.paths.model("digits").slots / device.active() / "labels.json"
        labels.write_bytes(labels.read_bytes()[:-3])

    await updated(prepare)
    assert whole_fetched(hub) == 1
    assert len(warnings(device)) == 1


async def test_a_link_that_breaks_forever_on_the_delta_only_is_given_up(
    hub: HubSim, device: Device, updated: Update
) -> None:
    def prepare() -> None:
        offered = offer_delta(hub, bundle(1), bundle(2))
        hub.faults = [Fault(path=offered.get, times=100_000, status=503)]

    await updated(prepare, transfer_max_attempts=2, max_attempts=30)
    assert whole_fetched(hub) == 1
    assert warnings(device) == ["hub.busy"]
    assert len([seen for seen in hub.asked(DELTAS) if "?" not in seen.path]) == 5 * 2


async def test_a_delta_that_ends_the_worker_each_time_is_given_up(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    """A worker that is killed in the middle leaves nothing but the count of its attempts."""
    old, new = release(1), release(2)
    async with device.run():
        await device.assign(assign(1, 1))
        await device.until_state("committed", counter=1)
    hub.faults = [Fault(path=offer_delta(hub, old, new).get, times=5, drop_after=1000)]
    digest = hashlib.sha256(new).hexdigest()
    paths = device.paths.model("digits")
    wanted = Wanted(f"{ARTEFACT}{digest}", paths.download / f"{digest}.part", len(new), digest)
    store = IdentityStore(device.paths.identity)

    def die(_received: int) -> None:
        raise PowerCut

    def fetch(progress: Callable[[int], None]) -> Tried:
        with open_client(hub.url, store.credentials(), QUICK) as client:
            downloader = Downloader(
                client,
                SystemClock(),
                backoff=Backoff(base_s=0.01, cap_s=0.01, max_attempts=2),
                pace=Pace(1, 60.0),
                sleep=lambda _s: None,
                random=lambda: 0.0,
                progress=progress,
            )
            return DeltaDownload(client, downloader, Slots(paths), 0.0).fetch(wanted)

    paths.download.mkdir(exist_ok=True)
    for _ in range(5):
        with pytest.raises(PowerCut):
            fetch(die)
    for _ in range(2):
        tried = fetch(lambda _received: None)
        assert tried.problem is not None
        assert (tried.problem.code, tried.used) == ("delta.gave_up", False)
    assert not wanted.file.exists()


async def test_a_delta_that_failed_is_not_tried_again_when_the_whole_bundle_breaks_too(
    hub: HubSim, device: Device, updated: Update
) -> None:
    def prepare() -> None:
        offer_delta(hub, bundle(1), bundle(2), delta=b"\xff" * 4000)
        hub.faults = [Fault(times=4, drop_after=1000)]

    await updated(prepare, transfer_max_attempts=2)
    assert len([seen for seen in hub.asked(DELTAS) if "?" not in seen.path]) == 1
    assert warnings(device) == ["delta.malformed"]


async def test_bytes_of_the_whole_bundle_that_are_there_are_not_thrown_away_for_a_delta(
    hub: HubSim, device: Device, updated: Update
) -> None:
    """The hub makes the delta while the device is already fetching the whole."""

    def prepare() -> None:
        offered = offer_delta(hub, bundle(1), bundle(2))
        hub.faults = [
            Fault(path=offered.ask, times=1, status=404),
            Fault(times=2, drop_after=20_000),
        ]

    report = await updated(prepare, transfer_max_attempts=1)
    assert [seen.range for seen in hub.asked()] == ["", "bytes=20000-", "bytes=40000-"]
    assert report.bytes_downloaded > 0


async def test_the_version_before_the_active_one_serves_as_a_source_too(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    data = {version: release(version) for version in (1, 2, 3)}
    offer_delta(hub, data[1], data[3], asked_from=(data[2], data[1]))
    async with device.run():
        for version in (1, 2, 3):
            if version == 3:
                hub.requests.clear()
            await device.assign(assign(version, version))
            await device.until_state("committed", counter=version)
    assert whole_fetched(hub) == 0


def test_the_wait_has_bounds() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"delta_wait_s": -1.0}, OtaSettings)
