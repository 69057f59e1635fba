"""What devices measured, put together: paired with the base version, by profile and group, the worst named."""

from __future__ import annotations

import pytest

from hub.federated.evaluation import DeviceEvaluation, dropped, summarise


def _device(name: str, examples: int, accuracy: float, base: float = 0.5) -> DeviceEvaluation:
    return DeviceEvaluation(
        device_id=name, examples=examples, accuracy=accuracy, loss=1 - accuracy, base_accuracy=base, base_loss=1 - base
    )


DEVICES = [_device("a", 10, 1.0), _device("b", 30, 0.5), _device("c", 60, 0.8, 0.9)]


def test_means_are_weighted_by_examples() -> None:
    found = summarise(4, DEVICES)
    assert found is not None
    assert (found.asked, found.whole.devices, found.whole.examples) == (4, 3, 100)
    assert found.whole.accuracy == pytest.approx(0.73)
    assert found.whole.base_loss == pytest.approx(0.26)
    assert dropped(found) == pytest.approx(0.01)


def test_the_worst_profile_or_group_is_named() -> None:
    found = summarise(
        3,
        DEVICES,
        {"a": "pi", "b": "pi", "c": "x86", "absent": "odd"},
        {"hall": ["b", "gone"], "yard": ["a"], "no": []},
    )
    assert found is not None
    assert [(part.name, part.devices, part.examples) for part in found.profiles] == [("pi", 2, 40), ("x86", 1, 60)]
    assert [(part.name, part.devices) for part in found.groups] == [("hall", 1), ("yard", 1)]
    assert found.worst.name == "hall"
    alone = summarise(3, DEVICES)
    assert alone is not None
    assert alone.worst == alone.whole


def test_nobody_who_measured_is_no_evaluation() -> None:
    assert summarise(2, []) is None
    assert summarise(2, [_device("a", 0, 1.0)]) is None
