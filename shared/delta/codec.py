"""Zstandard, in one place: whole small frames whose content has a known, bounded length.

Rules: a frame says its content's length, and it is the expected one before anything is reserved; it asks for no window
above that; it carries no checksum, no dictionary id and nothing behind it. The digest of the result is what counts.
"""

from __future__ import annotations

import zstandard

from shared.errors import InvalidInput

__all__ = ["compress", "decompress"]

_MIN_WINDOW = 1024
_WINDOW_LOG = 24  # reaches from the end of a part to the beginning of its dictionary


def _dictionary(data: bytes | None) -> zstandard.ZstdCompressionDict | None:
    return None if data is None else zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def compress(data: bytes, level: int, dictionary: bytes | None = None) -> bytes:
    """One frame that holds `data`; `dictionary`: bytes that the reader has too."""
    size = len(data) + len(dictionary or b"")
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=size,
        window_log=max(10, min(_WINDOW_LOG, size.bit_length())),
        write_content_size=True,
        write_checksum=False,
        write_dict_id=False,
    )
    compressor = zstandard.ZstdCompressor(dict_data=_dictionary(dictionary), compression_params=parameters)
    return compressor.compress(data)


def decompress(frame: bytes, size: int, dictionary: bytes | None = None) -> bytes:
    """The content of a frame, which must have exactly `size` bytes; error `delta.malformed`."""
    try:
        said = zstandard.get_frame_parameters(frame)
        if said.content_size != size or said.window_size > max(size, _MIN_WINDOW) or said.dict_id:
            raise InvalidInput("delta.malformed", "A payload of the delta is not as long as it says.")
        decompressor = zstandard.ZstdDecompressor(dict_data=_dictionary(dictionary))
        return decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise InvalidInput("delta.malformed", f"A payload of the delta cannot be read: {error}."[:300]) from error
