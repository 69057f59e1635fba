"""Shamir's secret sharing over the integers modulo the smallest prime above 2**256. Pure.

Any `threshold` shares of a secret of 32 bytes give it back; fewer say nothing about it. Randomness comes from outside.
A wrong share gives a wrong secret and no error: whoever joins shares must be able to tell the right secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

__all__ = ["SECRET_BYTES", "SHARE_BYTES", "join", "split"]

SECRET_BYTES = 32
SHARE_BYTES = 33
_PRIME = 2**256 + 297
_SPARE = 16  # bytes beyond the prime's, so that a remainder is as good as uniform


def split(secret: bytes, points: Sequence[int], threshold: int, random: Callable[[int], bytes]) -> dict[int, bytes]:
    """A share for each point (distinct, from 1); `random(n)` gives n bytes that nobody can foresee."""
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= len(points):
        raise ValueError("a secret has 32 bytes, and no more shares are needed than there are")
    if len(set(points)) != len(points) or not all(0 < point < _PRIME for point in points):
        raise ValueError("the points of shares are distinct and above 0")
    rest = [int.from_bytes(random(SHARE_BYTES + _SPARE), "big") % _PRIME for _ in range(threshold - 1)]
    terms = [int.from_bytes(secret, "big"), *rest]
    return {point: _value(terms, point).to_bytes(SHARE_BYTES, "big") for point in points}


def join(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret, from the first `threshold` of the shares by point."""
    if len(shares) < threshold or threshold < 1:
        raise ValueError("there are too few shares")
    points = sorted(shares)[:threshold]
    total = 0
    for point in points:
        above, below = 1, 1
        for other in points:
            if other != point:
                above = above * other % _PRIME
                below = below * (other - point) % _PRIME
        value = int.from_bytes(shares[point], "big") % _PRIME
        total = (total + value * above * pow(below, -1, _PRIME)) % _PRIME
    return (total % 2**256).to_bytes(SECRET_BYTES, "big")


def _value(terms: Sequence[int], point: int) -> int:
    total = 0
    for term in reversed(terms):
        total = (total * point + term) % _PRIME
    return total
