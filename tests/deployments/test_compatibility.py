"""Which firmware profiles can run a version."""

from __future__ import annotations

from pathlib import Path

from hub.deployments.compatibility import Compatibility
from shared.bundle.manifest import Requirements

PROFILES = Path(__file__).parent.parent.parent / "firmware_profiles"


def own_profile(folder: Path, name: str, file_name: str | None = None) -> None:
    """A profile of the fleet's own, like the Raspberry Pi 4's but for its name."""
    folder.mkdir(exist_ok=True)
    text = (PROFILES / "raspberry-pi-4.yaml").read_text().replace("name: raspberry-pi-4", f"name: {name}")
    (folder / f"{file_name or name}.yaml").write_text(text)


def test_what_the_hub_does_not_know_cannot_run_anything(tmp_path: Path) -> None:
    found = Compatibility(tmp_path).unfit(["raspberry-pi-4", "home-made"], Requirements())
    assert found == {"home-made": "profile.unknown"}


def test_each_profile_is_told_its_own_reason() -> None:
    needs = Requirements(memory_bytes=200 * 1024**2, ops={"NO_SUCH_OP": 1})
    found = Compatibility().unfit(["raspberry-pi-4", "raspberry-pi-zero-2w"], needs)
    assert found == {"raspberry-pi-4": "profile.op_missing", "raspberry-pi-zero-2w": "profile.memory"}


def test_a_fleets_own_profile_is_found_as_soon_as_it_is_there(tmp_path: Path) -> None:
    compatibility = Compatibility(tmp_path / "profiles")
    assert compatibility.unfit(["home-made"], Requirements()) == {"home-made": "profile.unknown"}
    own_profile(tmp_path / "profiles", "home-made")
    assert compatibility.unfit(["home-made"], Requirements()) == {}


def test_a_device_cannot_name_a_file(tmp_path: Path) -> None:
    own_profile(tmp_path, "secret")
    names = [str(tmp_path / "secret"), str(tmp_path / "secret.yaml"), "../secret", "./secret", "secret.yaml", ""]
    found = Compatibility(tmp_path / "profiles").unfit(names, Requirements())
    assert found == dict.fromkeys(names, "profile.unknown")


def test_a_file_that_describes_another_profile_or_nothing_is_refused(tmp_path: Path) -> None:
    own_profile(tmp_path, "home-made", "other")
    (tmp_path / "broken.yaml").write_text("name: broken\n")
    found = Compatibility(tmp_path).unfit(["other", "broken"], Requirements())
    assert found == dict.fromkeys(["other", "broken"], "profile.invalid")
