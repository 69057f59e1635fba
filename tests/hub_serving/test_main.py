"""`skerry-hub` as a person runs it: prepares, serves, ends on a signal."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ports import free_ports

DEADLINE_S = 60.0


def children_of(pid: int) -> list[int]:
    found = [int(text) for file in Path(f"/proc/{pid}/task").glob("*/children") for text in file.read_text().split()]
    return found + [grandchild for child in found for grandchild in children_of(child)]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hub.main", *arguments]


def run(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


def write_settings(data: Path, **settings: Any) -> None:
    data.mkdir(parents=True, exist_ok=True)
    (data / "hub.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))


@contextmanager
def serving(data: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    https, mqtt, nats = free_ports(3)
    write_settings(data, port=https, mqtt_port=mqtt, nats={"port": nats})
    log = (data / "hub.log").open("w")
    process = subprocess.Popen(
        command("serve", "--data", str(data), "--json"), stdout=subprocess.PIPE, stderr=log, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (data / "hub.log").read_text()
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)
        log.close()


def ask(facts: dict[str, Any], path: str) -> httpx.Response:
    token = Path(facts["admin_token_file"]).read_text().strip()
    tls = ssl.create_default_context(cafile=facts["ca_file"])
    with httpx.Client(verify=tls, headers={"Authorization": f"Bearer {token}"}, timeout=20) as client:
        return client.get(facts["url"] + path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_new_hub_serves_and_a_signal_ends_it_and_its_children(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path / "hub") as (process, facts):
        assert facts["ready"]
        assert facts["created"]
        assert ask(facts, "/v1/whoami").json()["role"] == "admin"
        children = children_of(process.pid)
        assert children
        process.send_signal(number)
        assert process.wait(DEADLINE_S) == 0
        assert not [child for child in children if is_running(child)]
    log = (tmp_path / "hub" / "hub.log").read_text()
    assert "Traceback" not in log


def test_a_taken_port_is_said_in_words(tmp_path: Path) -> None:
    data = tmp_path / "hub"
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        write_settings(data, port=taken.getsockname()[1])
        output = run("serve", "--data", str(data), "--json", code=7)
    assert json.loads(output)["error"]["code"] == "hub.port"


def test_init_can_be_run_again_and_keeps_everything(tmp_path: Path) -> None:
    data = tmp_path / "hub"
    first = json.loads(run("init", "--data", str(data), "--json"))
    kept = {path: path.read_bytes() for path in data.rglob("*") if path.is_file() and "hub.db" not in path.name}
    second = json.loads(run("init", "--data", str(data), "--json"))
    assert (first["created"], second["created"]) == (True, False)
    assert {path: path.read_bytes() for path in kept} == kept
    assert Path(first["admin_token_file"]).stat().st_mode & 0o777 == 0o600


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    write_settings(tmp_path / "hub", prot=8443)
    output = run("init", "--data", str(tmp_path / "hub"), "--json", code=2)
    error = json.loads(output)["error"]
    assert error["code"] == "settings.unknown_key"
    assert "prot" in error["message"]


def test_a_token_is_made_on_the_spot_and_the_api_is_described(tmp_path: Path) -> None:
    data = str(tmp_path / "hub")
    made = json.loads(run("token", "create", "alice", "--role", "viewer", "--data", data, "--json"))
    assert made["token"].startswith("sk_")
    assert run("token", "create", "bob", "--data", data).strip().startswith("sk_")
    assert "access.role" in run("token", "create", "x", "--role", "king", "--data", data, "--json", code=2)
    described = json.loads(run("openapi", "--data", data))
    assert "/v1/devices" in described["paths"]
