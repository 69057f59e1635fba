"""Which assignment counters are used up: the highest that was accepted under each key that may sign assignments.

Rules: a counter counts for as long as the key that signed it is listed by the release metadata. So nothing is replayed
while keys overlap, and a thief who drove the counter to its end with a stolen key loses that the moment the holders of
the offline keys list another: envelopes of the old key count for nothing then, and neither do their counters (as TUF
starts versions anew under new keys, specification 5.3.11). Counters of keys that are not listed are kept, bounded, in
case they are listed again. What was accepted before keys were noted is `UNNAMED` and always counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

__all__ = ["MAX_KEYS", "UNNAMED", "highest_under", "noted"]

UNNAMED = ""
MAX_KEYS = 32


def highest_under(counters: Mapping[str, int], keyids: Collection[str]) -> int:
    """The highest counter that is used up while exactly these keys may sign."""
    return max((counter for keyid, counter in counters.items() if not keyid or keyid in keyids), default=0)


def noted(counters: Mapping[str, int], keyids: Iterable[str], counter: int) -> dict[str, int]:
    """`counters` after `counter` was accepted under these keys; the keys that were used longest ago are forgotten."""
    out = dict(counters)
    for keyid in keyids:
        out[keyid] = max(out.pop(keyid, 0), counter)
    named = [keyid for keyid in out if keyid != UNNAMED]
    for keyid in named[: max(0, len(named) - MAX_KEYS)]:
        del out[keyid]
    return out
