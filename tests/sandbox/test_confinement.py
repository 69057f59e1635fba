"""What a confined child cannot do, tried by a real child on this machine's kernel."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import signal
import time
from pathlib import Path

import pytest

from shared.sandbox.machines import MACHINES
from shared.sandbox.trial import ACTS
from shared.sandbox.wish import Confinement
from tests.sandbox.child import NOBODY, run, trial

IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="only root can change to another account")
WAYS = [
    pytest.param(Confinement(), None, id="as whoever tests"),
    pytest.param(Confinement(user=""), None, id="root without its powers"),
    pytest.param(Confinement(), NOBODY, id="an ordinary user", marks=as_root),
]


@pytest.mark.parametrize(("wish", "user"), WAYS)
def test_a_confined_child_can_do_none_of_what_hostile_code_would_try(wish: Confinement, user: int | None) -> None:
    found = trial(wish, user)
    assert found.possible == []
    assert found.shortfalls == []


def test_without_confinement_the_same_acts_are_possible() -> None:
    done = run("from shared.sandbox.trial import try_all; print(try_all())")
    possible = set(ACTS) - {"reach the internet", "become another user", "signal its parent", "make a namespace"}
    assert set(eval(done.stdout)) >= possible, done.stderr


@pytest.mark.parametrize("user", ["nobody", ""])
def test_privileges_are_gone_and_cannot_come_back(user: str) -> None:
    done = run("print(open('/proc/self/status').read())", Confinement(user=user))
    status = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    reading_only = 1 << 2
    assert int(status["CapEff"], 16) in ((0, reading_only) if user else (0,))
    assert int(status["CapBnd"], 16) == 0 or not IS_ROOT
    assert status["Uid"].split() == [str(NOBODY if IS_ROOT and user else os.getuid())] * 4


def test_it_writes_in_its_folder_and_nowhere_else(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    (outside / "kept").write_text("kept")
    (outside / "kept").chmod(0o666)
    code = f"""
inside, outside = {str(inside)!r}, {str(outside)!r}
os.mkdir(inside + '/a'); open(inside + '/a/b', 'w').write('x' * 100); os.rename(inside + '/a/b', inside + '/c')
for act in (lambda: open(outside + '/new', 'w'), lambda: open(outside + '/kept', 'a'), lambda: os.mkdir(outside + '/d'),
            lambda: os.unlink(outside + '/kept'), lambda: os.truncate(outside + '/kept', 0),
            lambda: os.link(inside + '/c', outside + '/e'), lambda: os.symlink('/', outside + '/f'),
            lambda: os.rename(inside + '/c', outside + '/g'), lambda: os.mknod(inside + '/device', 0o020666)):
    try:
        act()
    except OSError as error:
        print(error.errno)
    else:
        print('done')
"""
    done = run(code, Confinement(write=[str(inside)]))
    assert done.stderr == ""
    assert set(done.stdout.split()) <= {"1", "13", "18"}  # EPERM, EACCES, EXDEV
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert (inside / "c").stat().st_size == 100


def test_it_reads_what_it_is_given_and_not_the_devices_key(tmp_path: Path) -> None:
    slot, identity = tmp_path / "slots" / "v1", tmp_path / "identity"
    for folder in (slot, identity):
        folder.mkdir(parents=True)
        (folder / "file").write_text("content")
    code = f"print(open({str(slot / 'file')!r}).read()); open({str(identity / 'file')!r})"
    done = run(code, Confinement(read=[str(slot)]))
    assert done.stdout == "content\n"
    assert "PermissionError" in done.stderr


@pytest.mark.parametrize(
    ("wish", "code", "ended"),
    [
        (Confinement(cpu_s=1), "while True: pass", -signal.SIGXCPU),
        (Confinement(cpu_s=1), "import signal; signal.signal(24, lambda *_: None)\nwhile True: pass", -signal.SIGKILL),
        (Confinement(wall_s=0.5), "import time; time.sleep(600)", -signal.SIGALRM),
        (Confinement(memory_bytes=256 << 20), "held = bytearray(1 << 30)", 1),
        (
            Confinement(file_bytes=4096),
            "import tempfile; os.write(os.memfd_create('x'), bytes(1 << 20)); assert os.fstat(3).st_size <= 4096",
            0,
        ),
        (Confinement(files=16), "held = [os.dup(0) for _ in range(64)]", 1),
    ],
    ids=["processor", "processor, ignoring the signal", "time", "memory", "file size", "open files"],
)
def test_too_much_ends_it(wish: Confinement, code: str, ended: int) -> None:
    done = run(code, wish)
    assert done.returncode == ended, done.stderr


def test_it_ends_with_its_parent() -> None:
    code = """
ready, tell = os.pipe()
child = os.fork()
if child == 0:
    confine(Confinement())
    os.write(tell, b'x')
    import time; time.sleep(600)
os.read(ready, 1)
print(child, flush=True)
os.kill(os.getpid(), 9)
"""
    path = Path(f"/proc/{int(run(code).stdout)}/stat")
    deadline = time.monotonic() + 30
    while path.exists() and path.read_text().split()[2] not in ("Z", "X"):
        assert time.monotonic() < deadline


@pytest.mark.parametrize("user", ["nobody", ""])
def test_its_peak_of_memory_can_be_measured_anew(user: str) -> None:
    code = "open('/proc/self/clear_refs', 'w').write('5'); print('measured')"
    assert run(code, Confinement(user=user)).stdout == "measured\n"


def test_threads_are_possible_for_the_runtime() -> None:
    code = "import threading; t = threading.Thread(target=print, args=('ran',)); t.start(); t.join()"
    assert run(code, Confinement()).stdout == "ran\n"


def test_a_part_that_the_kernel_does_not_know_is_named_and_the_rest_still_holds() -> None:
    found = trial(Confinement(user=""), refuse="system_calls._refuse(444, errno.ENOSYS)")
    assert [missing.part for missing in found.shortfalls] == ["files"]
    assert set(found.possible) <= {"write outside its folder", "read other people's files"}


def test_where_calls_cannot_be_filtered_an_empty_network_takes_their_place() -> None:
    refuse = (
        "[system_calls._instruction(0x15, 157, 0, 4), system_calls._instruction(0x20, 16),"
        " system_calls._instruction(0x15, 22, 0, 1), system_calls._instruction(0x06, 0x00050016),"
        " system_calls._instruction(0x06, 0x7FFF0000)]"
    )
    if os.uname().machine != "x86_64":
        pytest.skip("the number of prctl is that of x86-64")
    found = trial(Confinement(user=""), refuse=refuse)
    assert [missing.part for missing in found.shortfalls] == ["system calls"]
    assert not {"reach the internet", "reach the loopback", "write outside its folder"} & set(found.possible)


@as_root
def test_an_account_that_is_not_there_is_named() -> None:
    found = trial(Confinement(user="no-such-account"))
    assert [missing.part for missing in found.shortfalls] == ["user"]
    assert found.possible == []


def test_the_numbers_of_the_system_calls_are_those_of_libseccomp() -> None:
    name = ctypes.util.find_library("seccomp")
    if name is None:
        pytest.skip("libseccomp is not installed here")
    library = ctypes.CDLL(name)
    for machine in MACHINES.values():
        for call, number in machine.numbers.items():
            assert library.seccomp_syscall_resolve_name_arch(machine.architecture, call.encode()) == number, call
