"""A stream of random words from a key, which can be entered at any place (ChaCha20). Pure.

One key gives one stream. Masks are added to long vectors piece by piece, so the stream is never held as a whole; noise
is drawn from it as well, because what a fast generator of numbers gave away could be foreseen from its past.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

__all__ = ["KEY_BYTES", "WORDS_PER_BLOCK", "stream"]

KEY_BYTES = 32
WORDS_PER_BLOCK = 16
_BLOCKS = 2**32
Words = NDArray[np.uint32]


def stream(key: bytes, words: int, first_block: int = 0) -> Words:
    """So many words [words] from the stream of `key` (32 bytes), from the block of 16 words at `first_block` on."""
    if len(key) != KEY_BYTES or words < 0 or first_block < 0:
        raise ValueError("a stream needs a key of 32 bytes and begins at a block from 0")
    if first_block + -(-words // WORDS_PER_BLOCK) > _BLOCKS:
        raise ValueError("the stream of a key ends after 2**32 blocks")
    place = first_block.to_bytes(4, "little") + bytes(12)
    encryptor = Cipher(ChaCha20(key, place), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(4 * words)), "<u4").astype(np.uint32)
