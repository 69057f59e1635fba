"""Windows that come again count once."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shared.drift.once import SeriesKey, is_new, key_of
from shared.wire.window import Window

WINDOW = Window(model="table", version=1, series="0" * 16, window_id=1, started_s=0, ended_s=1, rows=5)


def a_window(series: int, number: int) -> Window:
    return msgspec.structs.replace(WINDOW, series=f"{series:016x}", window_id=number, rows=series * 100 + number)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 8)), max_size=30), st.randoms(use_true_random=False))
def test_a_window_that_is_sent_again_counts_once(sent: list[tuple[int, int]], random: object) -> None:
    """Each series comes in order, with repetitions of anything that came before, also of past series."""
    ordered = sorted(set(sent))
    stream = []
    for index, item in enumerate(ordered):
        stream.append(item)
        stream += [ordered[random.randrange(index + 1)] for _ in range(random.randrange(3))]  # type: ignore[attr-defined]
    highest: dict[SeriesKey, int] = {}
    counted: Counter[int] = Counter()
    for item in stream:
        window = a_window(*item)
        if is_new(highest, "dev", window):
            highest[key_of("dev", window)] = window.window_id
            counted[window.rows] += 1
    assert counted == Counter({series * 100 + number: 1 for series, number in ordered})


def test_series_of_other_devices_models_and_versions_are_others() -> None:
    highest = {key_of("dev", WINDOW): 5}
    assert not is_new(highest, "dev", WINDOW)
    assert is_new(highest, "other", WINDOW)
    assert is_new(highest, "dev", msgspec.structs.replace(WINDOW, version=2))
    assert is_new(highest, "dev", msgspec.structs.replace(WINDOW, model="faces"))
    assert is_new(highest, "dev", msgspec.structs.replace(WINDOW, window_id=6))
