"""What a process does to a folder, seen by strace: one run gives the list of its file-system operations.

Rules: only calls that succeeded count, in the order in which they ended. Every call that can change what is below the
folder is either understood or an error, so nothing is overlooked. Memory that is mapped for writing is invisible to
strace; only SQLite's `-shm` file may be mapped so, which SQLite rebuilds after a power cut and never believes.
A line written to `<folder>.marks` is not an operation but a remark of the traced process, for example that it was told
that something is durable.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Op", "TraceError", "finished", "missing_for_traces", "parse", "run_traced"]

_SMALL = "open,openat,creat,ftruncate,truncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat"
_REST = "rmdir,fsync,fdatasync,sync_file_range,symlink,symlinkat,fallocate,mmap,copy_file_range,sendfile,splice"
_DATA = "write,pwrite64,writev,pwritev,pwritev2"
_CALL = re.compile(r"^(\d+) +(\w+)\((.*)\)\s+= (-?\d+|\?)")
_UNFINISHED = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_WITH_FD = re.compile(r"^(?:AT_FDCWD|-?\d+)<(.*)>(\(deleted\))?$")
_TIMEOUT_S = 120.0


class TraceError(Exception):
    """The trace cannot be had or shows something that the model does not know."""


@dataclass(frozen=True, slots=True)
class Op:
    """One operation on `path`, which is relative to the traced folder ("" is the folder itself).

    call: create (`data` empty; `truncate`, `append` as opened), write (`offset` -1: where the file stands), truncate
    (to `size`), sync, rename (to `other`), link (of `other`), unlink, mkdir, rmdir, symlink (to `other`), mark.
    """

    call: str
    path: str
    other: str = ""
    data: bytes = b""
    offset: int = -1
    size: int = 0
    truncate: bool = False
    append: bool = False

    def __str__(self) -> str:
        more = f" -> {self.other}" if self.other else f" {len(self.data)} bytes" if self.call == "write" else ""
        return f"{self.call} {self.path or '.'}{more}"


def missing_for_traces() -> str | None:
    """What keeps this machine from tracing, in words; None when nothing does."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, check=False, timeout=30)
    return None if tried.returncode == 0 else "strace may not trace here"


def run_traced(
    command: Sequence[str], roots: Sequence[Path], file: Path, *, data: bytes = b"", env: dict[str, str] | None = None
) -> dict[Path, list[Op]]:
    """Run a command to its end and give the operations below each of `roots`."""
    calls = ",".join((_SMALL, _REST, _DATA))
    options = ["-f", "-qq", "-y", "-xx", "-s", "67108864", "--seccomp-bpf", "-e", f"trace={calls}", "-e", "signal=none"]
    done = subprocess.run(
        ["strace", *options, "-o", str(file), *command],
        input=data,
        capture_output=True,
        check=False,
        timeout=_TIMEOUT_S,
        env=env,
    )
    if done.returncode != 0:
        raise TraceError(f"the traced process ended with {done.returncode}: {done.stderr.decode()[-3000:]}")
    with file.open() as lines:
        found = list(finished(lines))
    return {root: list(parse(found, root)) for root in roots}


def finished(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Calls that succeeded as (name, arguments), each when it ended."""
    begun: dict[str, str] = {}
    for raw in lines:
        line = raw.rstrip("\n")
        if match := _UNFINISHED.match(line):
            begun[match[1]] = f"{match[1]} {match[2]}({match[3]}"
            continue
        if match := _RESUMED.match(line):
            line = begun.pop(match[1], "") + match[3]
        match = _CALL.match(line)
        if match is not None and match[4] != "?" and int(match[4]) >= 0:
            yield match[2], f"{match[3]} = {match[4]}"


def parse(calls: Iterable[tuple[str, str]], root: Path) -> Iterator[Op]:
    """The operations below `root` among the calls of a trace."""
    mark = _hexed(str(root))
    for name, text in calls:
        if mark not in text:
            continue
        arguments, _, result = text.rpartition(" = ")
        op = _operation(name, _split(arguments), int(result), str(root))
        if op is not None:
            yield op


def _hexed(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def _plain(text: str) -> bytes:
    return bytes.fromhex(text.strip('"').replace("\\x", ""))


def _split(arguments: str) -> list[str]:
    return arguments.split(", ")


def _below(path: str, root: str) -> str | None:
    if path == root or path == f"{root}.marks":
        return path[len(root) :]
    return path[len(root) + 1 :] if path.startswith(f"{root}/") else None


def _fd(text: str, root: str) -> str | None:
    """The file behind a descriptor, if it is below the root and still has a name."""
    match = _WITH_FD.match(text)
    if match is None or match[2]:
        return None
    return _below(_plain(match[1]).decode(), root)


def _named(base: str, name: str, root: str) -> str | None:
    """The path that a call names, relative to a folder's descriptor where it is relative."""
    path = _plain(name).decode()
    match = _WITH_FD.match(base)
    if not path.startswith("/"):
        path = os.path.normpath(os.path.join(_plain(match[1]).decode() if match else "", path))
    return _below(path, root)


def _operation(name: str, a: list[str], result: int, root: str) -> Op | None:
    """The operation that a call is; None when it changes nothing below the root."""
    if name in ("open", "creat"):
        name, a = "openat", ["AT_FDCWD<>", *a]
    if name in ("rename", "link"):
        a = ["", a[0], "", a[1]]
    if name in ("mkdir", "unlink", "rmdir"):
        a = ["", *a]
    if name == "symlink":
        a = [a[0], "", a[1]]
    match name.removesuffix("at").removesuffix("at2") if name != "openat" else name:
        case "openat":
            return _opened(_named(a[0], a[1], root), a[2])
        case "write" | "pwrite64":
            return _written(_fd(a[0], root), a, result)
        case "ftruncate":
            path = _fd(a[0], root)
            return None if path is None else Op("truncate", path, size=int(a[1]))
        case "fsync" | "fdatasync":
            path = _fd(a[0], root)
            return None if path is None else Op("sync", path)
        case "rename" | "link":
            return _moved(name, _named(a[0], a[1], root), _named(a[2], a[3], root))
        case "unlink":
            path = _named(a[0], a[1], root)
            return None if path is None else Op("rmdir" if "AT_REMOVEDIR" in a[-1] else "unlink", path)
        case "mkdir" | "rmdir" as call:
            path = _named(a[0], a[1], root)
            return None if path is None else Op(call, path)
        case "symlink":
            path = _named(a[1], a[2], root)
            return None if path is None else Op("symlink", path, _plain(a[0]).decode())
        case "mmap":
            _mapped(a, root)
            return None
    raise TraceError(f"the model does not know {name}({', '.join(a)[:200]})")


def _opened(path: str | None, flags: str) -> Op | None:
    if path is None or path == ".marks" or ("O_CREAT" not in flags and "O_TRUNC" not in flags and "O_W" not in flags):
        return None
    return Op("create", path, truncate="O_TRUNC" in flags, append="O_APPEND" in flags)


def _written(path: str | None, a: list[str], result: int) -> Op | None:
    if path is None:
        return None
    data = _plain(a[1])[:result]
    if path == ".marks":
        return Op("mark", "", data.decode().strip())
    return Op("write", path, data=data, offset=int(a[3]) if len(a) > 3 else -1)


def _moved(name: str, source: str | None, target: str | None) -> Op | None:
    if source is None and target is None:
        return None
    if source is None or target is None:
        raise TraceError(f"{name} across the folder's border: {source} {target}")
    return Op("rename", source, target) if name.startswith("rename") else Op("link", target, source)


def _mapped(a: list[str], root: str) -> None:
    path = _fd(a[4], root)
    if path is not None and "PROT_WRITE" in a[2] and "MAP_SHARED" in a[3] and not path.endswith("-shm"):
        raise TraceError(f"{path} is mapped for writing")
