"""An own way to train is a class that is installed; what is none is refused, and the example does what it says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.training.sdk import Trainer, load_trainer
from shared.errors import InvalidInput
from shared.federated.codec import decode
from tests.training.test_work import Bench, digits_samples

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own_trainer.py"


NOTHING = ["no_such_module_here:Trainer", "agent.training.sdk:NoSuchClass", "agent.training.sdk:Example", "json:loads"]


@pytest.mark.parametrize("name", NOTHING)
def test_what_is_no_trainer_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_trainer(name)
    assert caught.value.code == "training.trainer"


def test_without_a_name_the_usual_one_trains() -> None:
    assert type(load_trainer("")) is Trainer
    assert type(load_trainer("agent.training.sdk:Trainer")) is Trainer


def test_the_example_learns_from_what_it_was_given_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("own_trainer", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example: Any = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "own_trainer", example)
    spec.loader.exec_module(example)
    example.FOLDER = tmp_path / "labelled"
    example.FOLDER.mkdir()
    samples = digits_samples(300)
    for number, sample in enumerate(samples[200:]):
        np.save(
            example.FOLDER / f"{sample.label}-{number:04}.npy",
            np.frombuffer(sample.data, np.float32).reshape(8, 8),
        )
    trainer = load_trainer("own_trainer:BalancedTrainer")
    bench = Bench(tmp_path, samples[:200], trainer)
    answer = bench.ask(epochs=6)
    assert answer.examples > Bench(tmp_path, samples[:200]).ask().examples
    assert bench.accuracy(bench.start + decode(answer.update, bench.head.sizes)) > 0.6
