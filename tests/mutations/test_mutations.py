"""A share of the mutations in every run; `python -m tests.mutations.soak` does all 20,000.

About one damaged model in five still runs. Those that change a golden output are refused; those that do not are what
the golden inputs cannot tell apart, and are counted, not refused: only the signature protects from them.
"""

from __future__ import annotations

import random

import pytest

from tests.mutations.campaign import run
from tests.mutations.damage import damaged

SEED = 20_261_123
SHARES = {"bundles": 600, "metadata": 300, "assignments": 3000, "desired": 2000, "models": 200}
BELIEVED = {"harmless", "on disk: harmless", "signed: well-formed", "same answers", "same golden answers"}


@pytest.mark.parametrize("subject", list(SHARES))
def test_damage_is_refused_with_a_code_or_changes_nothing(subject: str) -> None:
    tally = run(subject, seed=SEED, first=0, count=SHARES[subject])
    assert tally.failures == []
    assert tally.outcomes.total() == SHARES[subject]
    believed = sum(count for outcome, count in tally.outcomes.items() if outcome in BELIEVED)
    assert tally.refused + believed == SHARES[subject], tally.outcomes


def test_the_same_seed_does_the_same_damage() -> None:
    data = bytes(range(256)) * 4
    assert damaged(data, random.Random("a")) == damaged(data, random.Random("a"))
    assert len({damaged(data, random.Random(seed)) for seed in range(100)}) > 90
