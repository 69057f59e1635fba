"""The command: what is wrong with its words is said before anything is started."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from scripts.fleet_sim_app.__main__ import main
from scripts.fleet_sim_app.descriptors import raise_limit
from scripts.fleet_sim_app.usage import usage_of
from shared.errors import Unavailable


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        (["--devices", "0"], 2, "sim.devices"),
        (["--scenario", "nothing"], 4, "scenario.missing"),
        (["--requests-at-once", "0"], 2, "sim.pace"),
        (["--hub", "https://127.0.0.1:1"], 2, "sim.hub"),
        (["--hub", "https://127.0.0.1:1", "--token-file", "/nothing", "--ca", "/nothing"], 2, "sim.token"),
    ],
)
def test_wrong_words_are_refused_with_a_code(
    words: list[str], exit_code: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--json"]) == exit_code
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code


def test_a_scenario_file_with_a_mistake_names_the_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nprofiles: {x86-gateway: none}\n")
    assert main(["--scenario", str(path)]) == 2
    assert "profiles" in capsys.readouterr().out


def test_too_many_sessions_for_this_machine_are_refused_beforehand() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this machine has no limit")
    with pytest.raises(Unavailable) as caught:
        raise_limit(hard)
    assert caught.value.code == "sim.descriptors"
    assert str(hard) in caught.value.message


def test_a_process_that_is_gone_has_used_nothing() -> None:
    assert usage_of(2**22 + 1).cpu_s == 0.0
