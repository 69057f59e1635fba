"""Fetching a bundle over HTTPS from a hub that misbehaves: resumed, bounded, never more and never other bytes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from agent.identity.store import IdentityStore
from agent.ota.backoff import Backoff
from agent.ota.children import environment
from agent.ota.downloader import Downloader, Pace, Wanted
from agent.ota.hub_source import open_client
from agent.paths import AgentPaths
from shared.clock import SystemClock
from shared.errors import SkerryError, Untrusted
from tests.ota.device import QUICK
from tests.ota.hub_sim import ARTEFACT, Fault, HubSim

CONTENT = hashlib.shake_256(b"bundle").digest(300_000)


class Fetching:
    """One downloader and what it did."""

    def __init__(self, hub: HubSim, paths: AgentPaths, client: httpx.Client, pace: Pace) -> None:
        self.hub = hub
        digest = hub.kit.blobs.put(CONTENT)
        self.wanted = Wanted(ARTEFACT + digest, paths.root / "part" / digest, len(CONTENT), digest)
        self.waits: list[float] = []
        self.progress: list[int] = []
        self.downloader = Downloader(
            client,
            SystemClock(),
            backoff=Backoff(base_s=1.0, cap_s=30.0, max_attempts=3),
            pace=pace,
            sleep=self.waits.append,
            random=lambda: 0.0,
            progress=self.progress.append,
        )

    def fetch(self) -> int:
        received = self.downloader.fetch(self.wanted)
        assert self.wanted.file.read_bytes() == CONTENT
        return received

    def refused(self) -> SkerryError:
        with pytest.raises(SkerryError) as caught:
            self.downloader.fetch(self.wanted)
        return caught.value

    @property
    def ranges(self) -> list[str]:
        return [seen.range for seen in self.hub.asked()]


@contextmanager
def fetching_from(hub: HubSim, root: Path, pace: Pace) -> Iterator[Fetching]:
    paths = AgentPaths(root)
    hub.enrol(paths)
    with open_client(hub.url, IdentityStore(paths.identity).credentials(), QUICK) as client:
        yield Fetching(hub, paths, client, pace)


@pytest.fixture
def fetching(hub: HubSim, tmp_path: Path) -> Iterator[Fetching]:
    with fetching_from(hub, tmp_path / "state", Pace(1, 60.0)) as made:
        yield made


def test_a_bundle_is_fetched_once(fetching: Fetching) -> None:
    assert fetching.fetch() == len(CONTENT)
    assert fetching.progress[-1] == len(CONTENT)
    assert fetching.fetch() == 0
    assert len(fetching.ranges) == 1


def test_a_cut_transfer_goes_on_where_it_stopped(fetching: Fetching) -> None:
    fetching.hub.faults = [Fault(drop_after=100_000), Fault(drop_after=50_000)]
    assert fetching.fetch() == len(CONTENT)
    assert fetching.ranges == ["", "bytes=100000-", "bytes=150000-"]
    tag = f'"{fetching.wanted.sha256}"'
    assert [seen.if_range for seen in fetching.hub.asked()] == ["", tag, tag]


def test_a_later_process_goes_on_with_the_partial_file(hub: HubSim, tmp_path: Path) -> None:
    hub.faults = [Fault(drop_after=100_000), Fault(status=503, times=3)]
    with fetching_from(hub, tmp_path / "state", Pace(1, 60.0)) as first:
        assert first.refused().retriable
    with fetching_from(hub, tmp_path / "state", Pace(1, 60.0)) as second:
        assert second.fetch() == len(CONTENT) - 100_000


def test_attempts_that_bring_something_do_not_count(fetching: Fetching) -> None:
    fetching.hub.faults = [Fault(drop_after=1000, times=20)]
    assert fetching.fetch() == len(CONTENT)
    assert len(fetching.ranges) == 21


def test_attempts_that_bring_next_to_nothing_do_count(fetching: Fetching) -> None:
    fetching.hub.faults = [Fault(drop_after=10, times=99)]
    assert fetching.refused().retriable
    assert len(fetching.ranges) == 3
    assert fetching.wanted.file.stat().st_size == 30, "what came is kept for another time"


def test_attempts_that_bring_nothing_are_bounded_with_growing_waits(fetching: Fetching) -> None:
    fetching.hub.faults = [Fault(drop_after=0, times=99)]
    error = fetching.refused()
    assert (error.code, error.retriable) == ("hub.unreachable", True)
    assert len(fetching.ranges) == 3
    assert fetching.waits == [0.5, 1.0]


def test_other_bytes_behind_the_same_address_start_from_nothing(fetching: Fetching) -> None:
    fetching.hub.faults = [Fault(drop_after=100_000, etag='"another"')]
    assert fetching.fetch() == 100_000 + len(CONTENT)


def test_without_an_entity_tag_nothing_is_resumed(fetching: Fetching) -> None:
    fetching.hub.faults = [Fault(drop_after=100_000, etag="")]
    fetching.fetch()
    assert fetching.ranges == ["", ""]


def test_a_hub_that_ignores_ranges_is_understood(fetching: Fetching) -> None:
    fetching.hub.faults = [Fault(drop_after=100_000), Fault(no_range=True)]
    assert fetching.fetch() == 100_000 + len(CONTENT)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 301])
def test_a_refusal_is_final(fetching: Fetching, status: int) -> None:
    fetching.hub.faults = [Fault(status=status, headers={"Location": "/elsewhere"}, times=9)]
    assert not fetching.refused().retriable
    assert len(fetching.ranges) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(fetching: Fetching, status: int) -> None:
    fetching.hub.faults = [Fault(status=status, times=2)]
    assert fetching.fetch() == len(CONTENT)
    assert len(fetching.ranges) == 3


@pytest.mark.parametrize(("value", "least", "most"), [("7", 7.0, 7.0), ("99999", 30.0, 30.0), ("soon", 0.5, 0.5)])
def test_the_hub_says_when_to_come_again(fetching: Fetching, value: str, least: float, most: float) -> None:
    fetching.hub.faults = [Fault(status=429, headers={"Retry-After": value})]
    fetching.fetch()
    assert least <= fetching.waits[0] <= most


def test_the_hub_may_name_a_date(fetching: Fetching) -> None:
    at = formatdate(SystemClock().now() + 20, usegmt=True)
    fetching.hub.faults = [Fault(status=503, headers={"Retry-After": at})]
    fetching.fetch()
    assert 15 < fetching.waits[0] <= 20


def test_endless_data_is_cut_off(fetching: Fetching) -> None:
    fetching.hub.faults = [Fault(endless=True)]
    error = fetching.refused()
    assert (error.code, error.retriable) == ("download.too_large", False)
    assert fetching.wanted.file.stat().st_size <= len(CONTENT)


def test_a_longer_file_is_refused_before_it_is_read(fetching: Fetching) -> None:
    fetching.hub.replace[fetching.wanted.url] = CONTENT + b"more"
    assert fetching.refused().code == "download.too_large"
    assert not fetching.wanted.file.exists()


def test_other_bytes_of_the_right_length_are_refused_and_not_kept(fetching: Fetching) -> None:
    fetching.hub.faults = [Fault(flip=1234, times=9)]
    error = fetching.refused()
    assert (error.code, error.retriable) == ("download.digest_mismatch", False)
    assert not fetching.wanted.file.exists()
    assert len(fetching.ranges) == 1


def test_a_partial_file_that_a_power_cut_spoiled_is_fetched_again(fetching: Fetching) -> None:
    fetching.hub.faults = [Fault(drop_after=100_000), Fault(status=503, times=3)]
    fetching.refused()
    with fetching.wanted.file.open("r+b") as file:
        file.seek(50_000)
        file.write(bytes(4096))
    fetching.fetch()
    assert fetching.ranges[-2:] == ["bytes=100000-", ""]


@pytest.mark.parametrize("spoil", ["longer", "tag gone", "tag torn"])
def test_a_partial_file_that_cannot_be_continued_starts_from_nothing(fetching: Fetching, spoil: str) -> None:
    fetching.hub.faults = [Fault(drop_after=100_000), Fault(status=503, times=3)]
    fetching.refused()
    if spoil == "longer":
        fetching.wanted.file.write_bytes(CONTENT + b"x")
    elif spoil == "tag gone":
        fetching.wanted.tag_file.unlink()
    else:
        fetching.wanted.tag_file.write_bytes(b'"torn')
    fetching.fetch()
    assert fetching.ranges[-1] == ""


def test_a_range_that_was_not_asked_for_is_not_believed(fetching: Fetching) -> None:
    wrong = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
    fetching.hub.faults = [Fault(drop_after=100_000), Fault(headers=wrong)]
    fetching.fetch()
    assert fetching.ranges == ["", "bytes=100000-", ""]


def test_a_trickle_is_aborted_and_goes_on_later(hub: HubSim, tmp_path: Path) -> None:
    hub.faults = [Fault(piece=100, pause_s=0.02)]
    with fetching_from(hub, tmp_path / "state", Pace(50_000, 0.1)) as fetching:
        fetching.fetch()
        assert len(fetching.ranges) == 2
        assert fetching.ranges[1]


def test_an_unknown_hub_is_not_talked_to(fetching: Fetching, tmp_path: Path) -> None:
    with HubSim(fetching.hub.kit, tmp_path / "other").serve() as other:
        paths = AgentPaths(tmp_path / "state")
        with open_client(other.url, IdentityStore(paths.identity).credentials(), QUICK) as client:
            stranger = Fetching(other, paths, client, Pace(1, 60.0))
            assert isinstance(stranger.refused(), Untrusted)
            assert not other.requests


FULL_DISK = """
import resource, sys
from pathlib import Path
from agent.identity.store import IdentityStore
from agent.ota.backoff import Backoff
from agent.ota.downloader import Downloader, Pace, Wanted
from agent.ota.hub_source import open_client
from agent.ota.settings import OtaSettings
from agent.paths import AgentPaths
from shared.clock import SystemClock
from shared.errors import StorageFailure
url, state, digest, size = sys.argv[1:]
paths = AgentPaths(Path(state))
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
with open_client(url, IdentityStore(paths.identity).credentials(), OtaSettings()) as client:
    downloader = Downloader(client, SystemClock(), backoff=Backoff(), pace=Pace(1, 60.0), sleep=lambda s: None,
                            random=lambda: 0.0, progress=lambda n: None)
    try:
        downloader.fetch(Wanted(f"/v1/artefacts/{digest}", paths.root / "part" / digest, int(size), digest))
    except StorageFailure as error:
        print(error.code, error.retriable)
"""


def test_a_full_disk_ends_the_attempt_and_keeps_what_is_there(fetching: Fetching) -> None:
    wanted = fetching.wanted
    arguments = [fetching.hub.url, str(wanted.file.parent.parent), wanted.sha256, str(wanted.bytes)]
    done = subprocess.run(
        [sys.executable, "-P", "-c", FULL_DISK, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["storage.no_space", "True"]
    assert wanted.file.stat().st_size == 150_000
    assert fetching.fetch() == len(CONTENT) - 150_000


def test_a_file_that_is_too_short_at_the_hub_does_not_loop(fetching: Fetching) -> None:
    fetching.hub.replace[fetching.wanted.url] = CONTENT[:-512]
    assert fetching.refused().retriable
    assert len(fetching.ranges) <= 6
