"""`skerry versions sign` on a terminal: what is signed is seen first, the passphrase is asked for only after yes."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.trust.desk import PASSPHRASE, Desk, open_desk

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
_START = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from hub.cli.main import main
sys.argv[0] = "skerry"
main()
"""


class Terminal:
    """A command on a terminal of its own, and what has been on the screen so far."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self._process = process
        self._master = master
        self.screen = ""

    def until(self, text: str) -> str:
        """Wait until the text is on the screen; all of the screen, without colours and line breaks."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.plain():
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} never came: {self.screen}"
            assert self._read(left), f"it ended without {text!r}: {self.screen}"
        return self.plain()

    def plain(self) -> str:
        return " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.screen).split())

    def type(self, line: str) -> None:
        os.write(self._master, line.encode() + b"\n")

    def type_hidden(self, line: str) -> None:
        """Type once the terminal shows nothing that is typed; what came before that is thrown away by it."""
        deadline = time.monotonic() + PATIENCE_S
        while termios.tcgetattr(self._master)[3] & termios.ECHO:
            assert time.monotonic() < deadline, f"the passphrase would be seen: {self.screen}"
            time.sleep(0.005)
        self.type(line)

    def ended(self) -> int:
        """The exit code, once all that was said is on the screen."""
        while self._read(PATIENCE_S):
            pass
        return self._process.wait(PATIENCE_S)

    def _read(self, wait_s: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], wait_s)
        try:
            data = os.read(self._master, 65536) if ready else b""
        except OSError:  # the other end is closed
            return False
        self.screen += data.decode(errors="replace")
        return bool(data)


@contextmanager
def terminal(desk: Desk, *words: str | Path) -> Iterator[Terminal]:
    """`skerry WORDS` with a person in front of it and no passphrase in the environment."""
    master, slave = pty.openpty()
    environ = {**os.environ, **desk.skerry.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "160"}
    del environ["SKERRY_PASSPHRASE"]
    process = subprocess.Popen(
        [sys.executable, "-c", _START, *map(str, words)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environ,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
        os.close(master)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Version 1 is approved and in production; version 2 has passed its gate."""
    with open_desk(tmp_path_factory.mktemp("desk")) as made:
        made.approve(1, "alice", "bob")
        assert made.skerry("versions", "promote", "digits", "1").code == 0
        made.register(2)
        yield made


def test_the_reviewer_sees_all_of_it_then_says_yes_and_then_gives_the_passphrase(desk: Desk) -> None:
    digest = desk.skerry.json("versions", "show", "digits", "2")["bundle_sha256"]
    card = desk.skerry.json("versions", "show", "digits", "2", "--card")["card"].strip().splitlines()[0]
    with terminal(desk, "versions", "sign", "digits", "2", "--key", desk.key("alice")) as person:
        shown = person.until("Approve version 2 of digits? [y/N]")
        assert digest in shown
        assert "passed on" in shown
        assert " ".join(card.split()) in shown
        assert "version 1 (production)" in shown, "the difference to what runs"
        assert "assphrase" not in shown, "nobody is asked for a passphrase before the yes"
        person.type("y")
        person.until("Passphrase for")
        person.type_hidden(PASSPHRASE)
        assert person.ended() == 0, person.screen
    assert PASSPHRASE not in person.screen
    assert "waits for 1 more signature" in person.plain()


def test_the_reviewer_who_says_no_is_asked_for_no_passphrase_and_signs_nothing(desk: Desk) -> None:
    with terminal(desk, "versions", "sign", "digits", "2", "--key", desk.key("bob")) as person:
        person.until("Approve version 2 of digits? [y/N]")
        person.type("n")
        assert person.ended() == 2
    assert "assphrase" not in person.screen
    bob = desk.skerry.json("keys", "show", desk.key("bob"))["key_id"]
    (staged,) = desk.skerry.json("trust", "show")["staged"]
    assert all(bob not in item["signed"] for item in staged["requirements"])


def test_a_wrong_passphrase_on_the_terminal_signs_nothing(desk: Desk) -> None:
    with terminal(desk, "versions", "sign", "digits", "2", "--key", desk.key("carol")) as person:
        person.until("Approve version 2 of digits? [y/N]")
        person.type("y")
        person.until("Passphrase for")
        person.type_hidden("not the passphrase")
        assert person.ended() == 3
    assert "keys.wrong_passphrase" in person.plain()
