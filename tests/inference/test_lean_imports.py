"""What the daemon imports for inference stays small: nothing of cryptography, HTTP clients, TUF or command lines."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("cryptography", "httpx", "tuf", "securesystemslib", "typer", "rich", "yaml", "flatbuffers", "scipy", "hub")
MODULES = ("agent.inference.local_api.server", "agent.inference.predictor", "shared.bundle.archive")


def test_serving_models_imports_none_of_the_heavy_packages() -> None:
    code = f"import sys, {', '.join(MODULES)}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.split() == []


def test_a_bundle_can_be_unpacked_without_the_runtime() -> None:
    code = "import sys, shared.bundle.archive\nprint('numpy' in sys.modules, 'ai_edge_litert' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.split() == ["False", "False"]
