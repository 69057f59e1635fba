"""Turns come in the order of asking; whoever gives up leaves no hole, and nobody is let in twice."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from hub.store.turns import Turns

_LONG_S = 60.0


def waiting(turns: Turns, count: int) -> None:
    """Return when so many wait."""
    while len(turns._waiting) < count:
        time.sleep(0.001)


def test_turns_come_in_the_order_of_asking_and_not_to_whoever_is_quickest() -> None:
    turns, order = Turns(), []
    assert turns.take(_LONG_S)

    def ask(name: int) -> None:
        assert turns.take(_LONG_S)
        order.append(name)
        turns.give_back()

    threads = []
    for name in range(5):
        threads.append(threading.Thread(target=ask, args=(name,)))
        threads[-1].start()
        waiting(turns, name + 1)
    turns.give_back()
    assert turns.take(_LONG_S)  # asked last
    order.append(99)
    turns.give_back()
    for thread in threads:
        thread.join(_LONG_S)
    assert order == [0, 1, 2, 3, 4, 99]


def test_who_gives_up_is_passed_over() -> None:
    turns = Turns()
    assert turns.take(_LONG_S)
    assert not turns.take(0.01)
    turns.give_back()
    assert turns.take(0.01)


def test_only_one_at_a_time_however_many_ask_and_give_up() -> None:
    turns, inside, most = Turns(), 0, 0

    def work(number: int) -> int:
        nonlocal inside, most
        done = 0
        for _ in range(200):
            if turns.take(0.0001 if number % 2 else _LONG_S):
                inside += 1
                most = max(most, inside)
                inside -= 1
                done += 1
                turns.give_back()
        return done

    with ThreadPoolExecutor(6) as pool:
        done = sum(pool.map(work, range(6)))
    assert most == 1
    assert done >= 600
    assert turns.take(0.01)
