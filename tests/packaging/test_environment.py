"""`scripts/environment` says plainly what is missing, and then makes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "environment"


def run(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a working copy of its own, with `python` (a shell script) as the only interpreter."""
    (folder / "scripts").mkdir()
    shutil.copy(SCRIPT, folder / "scripts" / "environment")
    (folder / "pyproject.toml").write_text("")
    fake = folder / "python-for-test"
    fake.write_text(f"#!/bin/sh\n{python}\n")
    fake.chmod(0o755)
    environ = {**os.environ, "SKERRY_PYTHON": str(fake)}
    return subprocess.run(
        [str(folder / "scripts" / "environment")], capture_output=True, text=True, env=environ, check=False, timeout=60
    )


def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac')
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert "Python 3.9.2" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_python_without_venv_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, 'case "$2" in *version_info*) exit 0;; *) exit 1;; esac')
    assert done.returncode == 1
    assert "python3-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_scripts_are_sound_and_executable() -> None:
    root = SCRIPT.parents[1]
    for script in (SCRIPT, root / "scripts" / "test", root / "scripts" / "check", root / ".ci" / "run"):
        assert os.access(script, os.X_OK)
        done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
