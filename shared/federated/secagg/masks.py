"""Masks over vectors of 32-bit words, added modulo 2**32. Pure.

A masked vector is uniformly random to whoever lacks one of its keys. Masks are added in pieces, in place.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from shared.federated.stream import WORDS_PER_BLOCK, stream

__all__ = ["Words", "add_masks"]

Words = NDArray[np.uint32]
_PIECE = 4096 * WORDS_PER_BLOCK


def add_masks(words: Words, masks: Iterable[tuple[bytes, bool]]) -> None:
    """Add to `words` the stream of each key, or take it away (False)."""
    keys = list(masks)
    for start in range(0, words.size, _PIECE):
        piece = words[start : start + _PIECE]
        for key, plus in keys:
            mask = stream(key, piece.size, start // WORDS_PER_BLOCK)
            if plus:
                np.add(piece, mask, out=piece)
            else:
                np.subtract(piece, mask, out=piece)
