"""The trial of a version in a child process: real models, and everything that a bad one can do."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from agent.ota.probe import ProbeResult
from agent.ota.prober import Prober, judge
from agent.ota.settings import OtaSettings
from shared.errors import ErrorBody, SkerryError
from shared.profiles import Profile, load_profile
from tests.models import unpacked_digits

PROFILE = msgspec.structs.replace(load_profile("x86-gateway"), latency_p99_ms=60_000.0)
SETTINGS = OtaSettings(probe_runs=5)


async def refusal(
    directory: Path, profile: Profile = PROFILE, settings: OtaSettings = SETTINGS, module: str = "agent.ota.probe"
) -> str:
    """The code of the error that the probe raises."""
    with pytest.raises(SkerryError) as caught:
        await Prober(profile, settings, module=module).probe(directory)
    assert not caught.value.retriable
    return caught.value.code


async def test_a_good_version_passes_with_every_signature_run(tmp_path: Path) -> None:
    unpacked_digits(tmp_path / "slot")
    result = await Prober(PROFILE, SETTINGS).probe(tmp_path / "slot")
    assert result.golden_passed
    assert 0 < result.latency_p50_us <= result.latency_p99_us
    assert {name.rpartition(":")[2] for name in result.signatures} >= {"train", "infer", "get_weights", "set_weights"}


async def test_outputs_that_differ_from_the_golden_ones_are_refused(tmp_path: Path) -> None:
    unpacked_digits(tmp_path / "slot", golden_outputs=np.eye(10, dtype=np.float32)[:8])
    assert await refusal(tmp_path / "slot") == "probe.golden_mismatch"


async def test_a_version_over_the_latency_budget_is_refused(tmp_path: Path) -> None:
    unpacked_digits(tmp_path / "slot")
    profile = msgspec.structs.replace(PROFILE, latency_p99_ms=1e-6)
    assert await refusal(tmp_path / "slot", profile) == "probe.too_slow"


async def test_a_version_over_the_memory_budget_is_refused(tmp_path: Path) -> None:
    unpacked_digits(tmp_path / "slot")
    profile = msgspec.structs.replace(PROFILE, model_memory_bytes=1)
    assert await refusal(tmp_path / "slot", profile) == "probe.too_much_memory"


async def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    manifest = unpacked_digits(tmp_path / "slot")
    (tmp_path / "slot" / manifest.extractor.path).write_bytes(b"\x00" * 4096)
    assert await refusal(tmp_path / "slot") in ("probe.refused", "probe.crashed")


@pytest.mark.parametrize(
    ("way", "code"),
    [
        ("crash", "probe.crashed"),
        ("spin", "probe.cpu_time"),
        ("flood", "probe.crashed"),
        ("silence", "probe.crashed"),
        ("nonsense", "probe.crashed"),
        ("status", "probe.crashed"),
    ],
)
async def test_what_a_child_does_wrong_is_a_verdict(way: str, code: str) -> None:
    assert await refusal(Path(way), module="tests.ota.misbehaving_probe") == code


async def test_a_hang_ends_at_the_deadline() -> None:
    settings = OtaSettings(probe_timeout_s=0.5)
    assert await refusal(Path("hang"), settings=settings, module="tests.ota.misbehaving_probe") == "probe.timeout"


@pytest.mark.parametrize(
    ("code", "expected"),
    [("model.unsupported_op", "probe.unsupported_op"), ("model.load_failed", "probe.refused")],
)
def test_what_the_runtime_refuses_keeps_its_reason(code: str, expected: str) -> None:
    with pytest.raises(SkerryError) as caught:
        judge(ProbeResult(error=ErrorBody(code=code, message="because")), PROFILE)
    assert (caught.value.code, caught.value.message) == (expected, "because")
