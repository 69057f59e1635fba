"""Ways to carry a new bundle to a device that has the old one, each run alone in a fresh process.

`run(way, old, new, folder)` gives bytes, milliseconds of both sides and the peak of memory above the imports. The peers
work on the whole archives, as their command lines would. bsdiff4 is measured if it is installed.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["WAYS", "run"]

WAYS = ("skerry", "zstd", "zstd_patch_from", "bsdiff4")


def run(way: str, old: Path, new: Path, folder: Path) -> dict[str, Any] | None:
    """Encode in one process and decode in another; None when the peer is not installed."""
    if way == "bsdiff4" and importlib.util.find_spec("bsdiff4") is None:
        return None
    patch = folder / f"{way}.patch"
    encode = _alone("encode", way, old, new, patch)
    decode = _alone("decode", way, old, new, patch)
    return {
        "bytes": patch.stat().st_size,
        "encode_ms": encode[0],
        "decode_ms": decode[0],
        "encode_peak_mb": encode[1],
        "decode_peak_mb": decode[1],
    }


def _alone(side: str, way: str, *paths: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "tests.bench.delta_ways", side, way, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    taken_ms, peak_mb = json.loads(done.stdout)
    return taken_ms, peak_mb


def _timed(act: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds and the peak of memory above what was there before, in MB."""
    before = _peak_kb()
    started = time.perf_counter()
    act()
    taken_ms = (time.perf_counter() - started) * 1000
    return round(taken_ms, 1), round((_peak_kb() - before) * 1024 / 1e6, 1)


def _peak_kb() -> int:
    """The most memory that this program has had; `ru_maxrss` would remember the parent's."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def _encode(way: str, old: Path, new: Path, patch: Path) -> tuple[float, float]:
    if way == "skerry":
        from shared.delta.encode import encode_delta

        with patch.open("w+b") as out:
            return _timed(lambda: encode_delta(old, new, out))
    if way == "bsdiff4":
        peer = importlib.import_module("bsdiff4")
        return _timed(lambda: patch.write_bytes(peer.diff(old.read_bytes(), new.read_bytes())))
    from shared.delta.codec import compress

    compress(b"", 19)
    known = old if way == "zstd_patch_from" else None
    return _timed(lambda: patch.write_bytes(compress(new.read_bytes(), 19, known.read_bytes() if known else None)))


def _decode(way: str, old: Path, new: Path, patch: Path) -> tuple[float, float]:
    result = patch.with_suffix(".result")
    if way == "skerry":
        found = _timed_skerry(old, new, patch, result)
    elif way == "bsdiff4":
        peer = importlib.import_module("bsdiff4")
        found = _timed(lambda: result.write_bytes(peer.patch(old.read_bytes(), patch.read_bytes())))
    else:
        from shared.delta.codec import decompress

        size, known = new.stat().st_size, old if way == "zstd_patch_from" else None
        found = _timed(
            lambda: result.write_bytes(decompress(patch.read_bytes(), size, known.read_bytes() if known else None))
        )
    if result.read_bytes() != new.read_bytes():
        raise AssertionError(f"{way} gives another bundle")
    result.unlink()
    return found


def _timed_skerry(old: Path, new: Path, patch: Path, result: Path) -> tuple[float, float]:
    from shared.delta.apply import apply_delta
    from shared.delta.format import Pair
    from shared.delta.source import ArchiveFile

    pair = Pair(
        from_sha256=_sha256(old),
        from_bytes=old.stat().st_size,
        to_sha256=_sha256(new),
        to_bytes=new.stat().st_size,
    )
    with patch.open("rb") as delta, ArchiveFile(old) as source, result.open("wb") as out:
        return _timed(lambda: apply_delta(delta, source, lambda block: _write(out, block), pair))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(out: Any, block: bytes) -> None:
    out.write(block)


if __name__ == "__main__":
    _side, _way, *_paths = sys.argv[1:]
    _work = _encode if _side == "encode" else _decode
    print(json.dumps(_work(_way, Path(_paths[0]), Path(_paths[1]), Path(_paths[2]))))
