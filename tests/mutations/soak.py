"""`python -m tests.mutations.soak [--count 20000] [--seed 1] [--only SUBJECT] [--first 0]`: mutations by the thousands.

Prints one JSON object with the outcomes of every subject, and for each failure the command that repeats it. Exits
with 1 when there was one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from tests.mutations.campaign import SUBJECTS, Tally, run

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run the campaign; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations.soak", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="mutations of all chosen subjects together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="index of the first mutation of each subject")
    parser.add_argument("--only", choices=SUBJECTS, action="append", help="only this subject; may be repeated")
    options = parser.parse_args(arguments)
    chosen = options.only or list(SUBJECTS)
    report, failed = {}, 0
    for at, subject in enumerate(chosen):
        count = options.count // len(chosen) + (at < options.count % len(chosen))
        started = time.monotonic()
        tally = run(subject, seed=options.seed, first=options.first, count=count)
        report[subject] = _figures(tally, count, time.monotonic() - started)
        for index, why in tally.failures:
            failed += 1
            again = f"python -m tests.mutations.soak --only {subject} --seed {options.seed} --first {index} --count 1"
            print(f"FAILED {subject} {index}: {why}\n  {again}", file=sys.stderr)
    print(json.dumps({"mutations": options.count, "failures": failed, "subjects": report}, indent=2))
    return 1 if failed else 0


def _figures(tally: Tally, count: int, seconds: float) -> dict[str, object]:
    return {
        "mutations": count,
        "refused": tally.refused,
        "failures": len(tally.failures),
        "seconds": round(seconds, 1),
        "outcomes": dict(tally.outcomes.most_common()),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
