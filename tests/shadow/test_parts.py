"""What decides about a shadow: the processor budget, agreement, memory."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.shadow.agreement import agree, check_comparable, tolerance_of
from agent.shadow.budget import CpuBudget
from agent.shadow.counts import ShadowCounts
from agent.shadow.memory import PROCESS_BYTES, available_bytes, check_memory
from shared.bundle.manifest import TensorSpec
from shared.errors import Conflict
from shared.profiles import load_profile
from shared.wire.health import ShadowHealth
from tests.models import unpacked_digits


@given(
    st.integers(1, 10_000),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0.0001, 3)), max_size=60),
)
def test_over_any_time_no_more_is_used_than_the_share_and_one_saving_and_the_last_use(
    share_bp: int, steps: list[tuple[float, float]]
) -> None:
    budget, now_s, used_s, largest_s = CpuBudget(share_bp, 0.0), 0.0, 0.0, 0.0
    for wait_s, cost_s in steps:
        now_s += wait_s
        if budget.allows(now_s):
            budget.spend(cost_s)
            used_s, largest_s = used_s + cost_s, max(largest_s, cost_s)
    assert used_s <= share_bp / 10_000 * (now_s + 5.0) + largest_s + 1e-6


def test_what_is_owed_is_paid_off_by_waiting() -> None:
    budget = CpuBudget(1000, 0.0)
    budget.spend(1.5)
    assert not budget.allows(9.0)
    assert budget.allows(10.5)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    budget = CpuBudget(1000, 100.0)
    budget.spend(0.5)
    assert not budget.allows(50.0)
    assert not budget.allows(100.0)


def test_classes_agree_by_their_greatest_output_and_numbers_within_the_tolerance() -> None:
    live = np.array([0.1, 0.6, 0.3], np.float32)
    assert agree("classification", live, np.array([0.4, 0.5, 0.1], np.float32), 0.0)
    assert not agree("classification", live, np.array([0.5, 0.4, 0.1], np.float32), 9.0)
    assert agree("regression", live, live + 0.05, 0.06)
    assert not agree("regression", live, live + 0.05, 0.04)
    assert not agree("regression", live, np.array([np.nan, 0.6, 0.3], np.float32), 1e9)


def test_versions_with_other_inputs_or_outputs_are_not_compared(tmp_path: Path) -> None:
    live = unpacked_digits(tmp_path / "v1", 1)
    check_comparable(live, msgspec.structs.replace(live, version=2, preprocessing=[]))
    other = TensorSpec(name="image", dtype="float32", shape=[8, 9])
    for changed in ({"input": other}, {"output": other}, {"task": "regression"}):
        with pytest.raises(Conflict) as caught:
            check_comparable(live, msgspec.structs.replace(live, **changed))
        assert caught.value.code == "shadow.incompatible"


def test_the_tolerance_is_the_bundles_unless_the_hub_says_another(tmp_path: Path) -> None:
    manifest = unpacked_digits(tmp_path / "v1", 1)
    assert tolerance_of(manifest, 0) == manifest.golden.tolerance
    assert tolerance_of(manifest, 250_000) == 0.25


def test_a_device_without_the_memory_for_it_refuses(tmp_path: Path) -> None:
    manifest, profile = unpacked_digits(tmp_path / "v1", 1), load_profile("x86-gateway")
    check_memory(manifest, profile, PROCESS_BYTES * 2)
    small = msgspec.structs.replace(profile, model_memory_bytes=PROCESS_BYTES)
    for given_profile, available in ((small, 1 << 40), (profile, PROCESS_BYTES), (profile, 0)):
        with pytest.raises(Conflict) as caught:
            check_memory(manifest, given_profile, available)
        assert caught.value.code == "shadow.no_memory"


def test_the_kernels_word_on_free_memory_is_read_and_its_silence_is_none(tmp_path: Path) -> None:
    assert available_bytes() > 1 << 20
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\n")
    assert available_bytes(tmp_path / "meminfo") == available_bytes(tmp_path / "none") == 0


def test_counts_are_taken_once_and_nothing_is_no_message() -> None:
    counts = ShadowCounts(3, budget_ns=1000)
    assert counts.take() is None
    counts.compared(500, agreed=True)
    counts.compared(5000, agreed=False)
    counts.failed()
    counts.skipped()
    counts.stopped("shadow.crashed", crashed=True)
    assert counts.take() == ShadowHealth(
        version=3, compared=2, disagreed=1, errors=1, over_budget=1, skipped=1, crashes=1, stopped="shadow.crashed",
        latency=[(1, 1), (17, 1)],
    )  # fmt: skip
    assert counts.take() is None
