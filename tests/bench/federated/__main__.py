"""Federated training measured through the parts that ship; prints JSON, with the load of the machine and the peer.

    python -m tests.bench.federated table            # digits, 4 splits, 5 seeds, 30 rounds, 10 devices
    python -m tests.bench.federated same             # the whole path and `--local` give the same weights, to the bit
    python -m tests.bench.federated attack           # 2 of 10 devices attack
    python -m tests.bench.federated fashion          # Fashion-MNIST, 20 devices, beside central training
    python -m tests.bench.federated overhead         # what a round costs; --stock: stock Flower beside it
    python -m tests.bench.federated crowd            # 1,000 devices, 100 a round, a tenth drops out

Real: the worker process, Flower over TLS, the agent's node, training in the TFLite runtime, int8 updates with what
rounding left out. Not in it: hub, broker and the agent's daemon; an offer is a line on a pipe. `--local` leaves out
processes and sockets, for trying settings out. `--quick` is small, to see that it runs.
"""

from __future__ import annotations

import argparse
import json

from tests.bench.federated import runs
from tests.bench.federated.device import BEHAVIOURS


def main() -> int:
    """Print one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table", "same", "attack", "fashion", "overhead", "crowd"))
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--stock", action="store_true")
    parser.add_argument("--splits", nargs="*", default=None)
    parser.add_argument("--behaviours", nargs="*", default=list(BEHAVIOURS[1:6]))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--hidden", type=int, default=64)
    asked = parser.parse_args()
    seeds, rounds = (1, 3) if asked.quick else (asked.seeds, asked.rounds or 30)
    match asked.what:
        case "table":
            found = runs.table(asked.splits or runs.ALL_SPLITS, seeds, rounds, asked.local)
        case "same":
            found = runs.same((asked.splits or ["dir0.5"])[0], rounds)
        case "attack":
            found = runs.attack(asked.splits or ["iid", "dir0.5"], asked.behaviours, seeds, rounds, asked.local)
        case "fashion":
            found = runs.fashion_mnist(rounds, asked.hidden, runs.scratch(), asked.local)
        case "overhead":
            found = runs.overhead(rounds, asked.stock)
        case _:
            devices = 40 if asked.quick else asked.devices
            found = runs.crowd(devices, devices // 10, asked.rounds or (3 if asked.quick else 20), 4)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
