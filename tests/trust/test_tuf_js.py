"""tuf-js, a client that shares no code with ours, against the hub's repository, across rotations of every role.

It is installed by npm into pytest's cache, once. Where there is no npm, or it has no network, the tests are skipped
and say why; in continuous integration that is a failure.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from hub.trust import metadata
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, build_assignment_keys, parse_assignment_keys
from tests.trust.test_stolen_hub import _evil_release, _publish_by_force
from tests.trust_kit import TrustKit

PACKAGE = "tuf-js@^4.1.0"
SCRIPT = Path(__file__).with_name("tuf_js_client.js")


def unavailable(why: str) -> None:
    """Skip, or fail where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="session")
def library(request: pytest.FixtureRequest) -> Path:
    """The folder of the installed package."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        unavailable("node and npm are not installed")
    cache = request.config.cache
    if cache is None or npm is None:
        raise RuntimeError("pytest runs without its cache")
    folder = Path(cache.mkdir("tuf-js"))
    found = folder / "node_modules" / "tuf-js"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            command = [npm, "install", "--ignore-scripts", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"]
            done = subprocess.run(
                [*command, "--prefix", str(folder), PACKAGE], capture_output=True, text=True, check=False, timeout=300
            )
            if done.returncode != 0:
                unavailable(f"npm cannot install {PACKAGE}: {done.stderr.strip()[-300:]}")
            (folder / "complete").touch()
    return found


class TufJs:
    """One device's memory; each call is a new process."""

    def __init__(self, library: Path, kit: TrustKit, folder: Path) -> None:
        self._library = library
        self._kit = kit
        self._metadata, self._targets = folder / "metadata", folder / "targets"
        self._metadata.mkdir(parents=True)
        self._targets.mkdir()
        (self._metadata / "root.json").write_bytes(kit.repository.published("1.root.json"))

    def _run(self, path: str) -> subprocess.CompletedProcess[str]:
        with self._kit.serve() as url:
            where = [str(self._metadata), f"{url}/v1/tuf/", str(self._targets), f"{url}/v1/tuf/targets/"]
            command = ["node", str(SCRIPT), str(self._library), *where, path]
            return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def download(self, path: str) -> bytes | None:
        """The verified bytes of a target; None when there is no such target."""
        done = self._run(path)
        assert done.returncode == 0, done.stderr
        return None if done.stdout == "none" else bytes.fromhex(done.stdout)

    def refused(self, path: str) -> str:
        """The reason why it refuses."""
        done = self._run(path)
        assert done.returncode == 1, done.stdout
        return done.stderr


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[TrustKit]:
    """The database does not matter to a client."""
    made = TrustKit(tmp_path / "hub")
    yield made
    made.close()


@pytest.fixture
def client(kit: TrustKit, library: Path, tmp_path: Path) -> TufJs:
    kit.create_model("digits")
    kit.approve("digits", 1, b"one")
    made = TufJs(library, kit, tmp_path / "client")
    assert made.download("digits/1.bundle") == b"one"
    return made


def goes_on(kit: TrustKit, client: TufJs) -> None:
    """New releases still reach the client, and old ones stay."""
    kit.approve("digits", 2, b"two")
    assert client.download("digits/2.bundle") == b"two"
    assert client.download("digits/1.bundle") == b"one"


def quorum(signers: list[CryptoSigner]) -> metadata.Quorum:
    return metadata.Quorum(tuple(signer.public_key for signer in signers), 2)


def three() -> list[CryptoSigner]:
    return [CryptoSigner.generate_ed25519() for _ in range(3)]


def rotate_root(kit: TrustKit) -> None:
    """All offline keys at once, for root and targets."""
    old, new = kit.roots, three()
    data = metadata.revise_root(kit.root, root=quorum(new), targets=quorum(new), expires_s=kit.year_s)
    kit.propose("root", data, signers=[*old[:2], *new[:2]])
    renewed = metadata.renew(kit.current("targets"), expires_s=kit.year_s)
    assert kit.propose("targets", renewed, signers=new[:2]).published
    kit.roots = new


def rotate_targets(kit: TrustKit) -> None:
    """Other keys for targets than for root."""
    new = three()
    kit.propose("root", metadata.revise_root(kit.root, targets=quorum(new), expires_s=kit.year_s))
    renewed = metadata.renew(kit.current("targets"), expires_s=kit.year_s)
    assert kit.propose("targets", renewed, signers=new[:2]).published


def rotate_online(kit: TrustKit) -> None:
    """The key of snapshot and timestamp."""
    key = kit.repository.prepare_online_key("online", "admin")
    assert kit.propose("root", metadata.revise_root(kit.root, online=key, expires_s=kit.year_s)).published


def rotate_assignment(kit: TrustKit) -> None:
    """The key of assignments, which is a target."""
    files = {ASSIGNMENT_KEYS_PATH: build_assignment_keys([kit.repository.prepare_online_key("assignment", "admin")])}
    data = metadata.revise_targets(kit.current("targets"), files=files, expires_s=kit.year_s)
    assert kit.propose("targets", data, files=files).published


def rotate_reviewers(kit: TrustKit) -> None:
    """All reviewers of the model."""
    new = three()
    kit.appoint("digits", new)
    renewed = metadata.renew(kit.current("model-digits"), expires_s=kit.year_s)
    assert kit.propose("model-digits", renewed, signers=new[:2]).published


ROTATIONS = [rotate_root, rotate_targets, rotate_online, rotate_assignment, rotate_reviewers]


@pytest.mark.parametrize("rotate", ROTATIONS)
def test_tuf_js_goes_on_after_a_rotation(kit: TrustKit, client: TufJs, rotate: object) -> None:
    assert callable(rotate)
    rotate(kit)
    goes_on(kit, client)


def test_tuf_js_that_slept_through_all_rotations_goes_on(kit: TrustKit, client: TufJs) -> None:
    for rotate in (rotate_online, rotate_assignment, rotate_reviewers, rotate_root, rotate_targets):
        rotate(kit)
    goes_on(kit, client)
    keys = client.download(ASSIGNMENT_KEYS_PATH)
    assert keys is not None
    assert parse_assignment_keys(keys).keys() == {kit.repository.online_keys().assignment.keyid}
    assert client.download("digits/9.bundle") is None


@pytest.mark.parametrize("signers", ["nobody", "the hub", "one reviewer and the hub"])
def test_tuf_js_refuses_a_release_below_the_threshold(kit: TrustKit, client: TufJs, signers: str) -> None:
    chosen = [kit.reviewers["digits"][0]] if "reviewer" in signers else []
    chosen += [kit.keys.current("online"), kit.keys.current("assignment")] if "hub" in signers else []
    _publish_by_force(kit, "model-digits", metadata.sign(_evil_release(kit), *chosen))
    assert "model-digits was signed by" in client.refused("digits/2.bundle")
    assert client.download("skerry/nothing") is None, "what others signed is as good as before"
