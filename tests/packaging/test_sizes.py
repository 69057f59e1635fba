"""The size check finds what it is for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "sizes.py"


def check(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    (folder / "scripts").mkdir()
    (folder / "hub").mkdir()
    (folder / "scripts" / "sizes.py").write_text(SCRIPT.read_text())
    (folder / "hub" / "it.py").write_text(source)
    command = [sys.executable, str(folder / "scripts" / "sizes.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def function(lines: int) -> str:
    return '"""Says what it is for."""\n\ndef long() -> None:\n' + "    pass\n" * (lines - 1)


def test_what_is_small_passes(tmp_path: Path) -> None:
    done = check(tmp_path, function(49))
    assert (done.returncode, done.stdout) == (0, "")


def test_a_long_function_is_named(tmp_path: Path) -> None:
    done = check(tmp_path, function(50))
    assert done.returncode == 1
    assert done.stdout == "hub/it.py:3: long has 50 lines; at most 49\n"


def test_a_long_file_is_named(tmp_path: Path) -> None:
    done = check(tmp_path, '"""Says what it is for."""\n' + "x = 1\n" * 399)
    assert done.returncode == 1
    assert "hub/it.py:1: the file has 400 lines" in done.stdout


def test_a_module_without_docstring_is_named(tmp_path: Path) -> None:
    done = check(tmp_path, "x = 1\n")
    assert done.returncode == 1
    assert "no docstring" in done.stdout
