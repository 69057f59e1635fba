"""Each thing that can be wrong with a device is said, with what to do; and a healthy one is left alone."""

from __future__ import annotations

import os
import sqlite3
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from agent.doctor.examination import examine
from agent.doctor.findings import EXIT_PROBLEM, EXIT_WARNING, Finding, Level, exit_code
from agent.doctor.subject import Reporter, Subject
from agent.doctor.view import finding_lines
from agent.identity.store import Identity, IdentityStore, Validity
from agent.ota import history
from agent.ota.floor import Floor
from agent.ota.metadata_store import MetadataStore
from agent.outbox.store import OutboxStore
from agent.paths import AgentPaths
from shared.clock import SystemClock
from tests.agent_identity.authority import Authority
from tests.daemon.device import install_digits
from tests.doctor.conftest import Look
from tests.fleet_kit import ManualClock


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code.removeprefix("doctor.") for finding in findings]


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


@contextmanager
def listening(paths: AgentPaths, *, tls: bool, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Somebody at the hub's port, by default one who is not the hub, and who never says a word."""
    import socket

    server = socket.create_server(("127.0.0.1", 0))
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = paths.identity / "current"
        context.load_cert_chain(pair / "device.crt", pair / "device.key")

    def serve() -> None:
        try:
            connection, _ = server.accept()
            with connection:
                if tls:
                    context.wrap_socket(connection, server_side=True).close()
                else:
                    connection.sendall(b"SSH-2.0-OpenSSH_9\r\n")
        except OSError:
            return  # the client broke off, as it should

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.close()
        thread.join()


def point_at(paths: AgentPaths, host: str, port: int) -> None:
    """Change where the hub is said to be."""
    file = paths.identity / "identity.json"
    known = msgspec.json.decode(file.read_bytes(), type=Identity)
    moved = msgspec.structs.replace(known, hub_url=f"https://{host}:{port}", mqtt_host=host, mqtt_port=port)
    file.write_bytes(msgspec.json.encode(moved))


def test_a_folder_that_is_not_there(look: Look, paths: AgentPaths) -> None:
    os.rename(paths.root, paths.root.with_name("elsewhere"))
    assert codes(look("state folder")) == ["folder_missing"]


def test_a_folder_in_which_others_may_write(look: Look, paths: AgentPaths) -> None:
    assert only(look("state folder")).level is Level.FINE
    paths.root.chmod(0o777)
    found = only(look("state folder"))
    assert (found.code, found.level) == ("doctor.folder_open", Level.WARNING)
    assert str(paths.root) in found.advice


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_a_folder_of_several_owners(look: Look, paths: AgentPaths) -> None:
    os.chown(paths.identity, 12345, 12345)
    assert codes(look("state folder")) == ["folder_owner"]


def test_a_full_disk(look: Look, paths: AgentPaths) -> None:
    assert only(look("disk")).level in (Level.FINE, Level.WARNING)
    profile = (Path(__file__).parents[2] / "firmware_profiles" / "x86-gateway.yaml").read_text()
    lines = [
        "min_free_bytes: 1000000000000000" if line.startswith("min_free_bytes") else line
        for line in profile.splitlines()
    ]
    (paths.root / "profile.yaml").write_text("\n".join(lines))
    file = paths.identity / "identity.json"
    identity = msgspec.json.decode(file.read_bytes(), type=Identity)
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(identity, profile=str(paths.root / "profile.yaml"))))
    assert codes(look("disk")) == ["disk_full"]


def test_a_clock_before_what_is_known(look: Look, paths: AgentPaths) -> None:
    assert codes(look("clock", ManualClock(0.0))) == ["clock_behind"]
    now_s = time.time()
    MetadataStore(paths.tuf).save_floor(Floor(verified_s=now_s + 86_400))
    found = only(look("clock"))
    assert found.code == "doctor.clock_behind"
    assert "metadata was last verified" in found.message
    assert only(look("clock", ManualClock(now_s + 90_000))).level is Level.FINE


def test_a_clock_before_the_certificate_of_the_device(look: Look, paths: AgentPaths) -> None:
    made_s = IdentityStore(paths.identity).validity().not_before_s
    found = only(look("clock", ManualClock(made_s - 3600)))
    assert found.code == "doctor.clock_behind"
    assert "certificate was made" in found.message
    assert only(look("clock", ManualClock(made_s + 1))).level is Level.FINE


class DatedServer:
    """The hub's port with a certificate of the hub's CA that is valid in those days only."""

    def __init__(self, paths: AgentPaths, first_day: float, last_day: float) -> None:
        authority = Authority("hub ca", first_day=-1000)
        (paths.identity / "hub-ca.crt").write_text(authority.pem)
        key, certificate = authority.write_server(paths.root, days=last_day, first_day=first_day)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)


@pytest.mark.parametrize(
    ("days", "word"),
    [pytest.param((2, 9), "clock is wrong", id="1970"), pytest.param((-9, -2), "has ended", id="late")],
)
def test_dates_that_do_not_fit_are_the_clocks_fault(
    look: Look, paths: AgentPaths, days: tuple[int, int], word: str
) -> None:
    with listening(paths, tls=True, context=DatedServer(paths, *days).context) as port:
        point_at(paths, "127.0.0.1", port)
        found = only(look("hub over MQTT"))
    assert found.code == "doctor.mqtt_clock"
    assert word in found.message


def test_a_clock_that_is_wrong_for_sure_is_excused_as_the_agent_does(look: Look, paths: AgentPaths) -> None:
    """The probe gets through to what the hub says; that the clock is wrong is the clock's own finding."""
    validity = paths.identity / "current" / "validity.json"
    known = msgspec.json.decode(validity.read_bytes(), type=Validity)
    later = msgspec.structs.replace(known, not_before_s=int(time.time()) + 86_400)
    validity.write_bytes(msgspec.json.encode(later))
    with listening(paths, tls=True, context=DatedServer(paths, 2, 9).context) as port:
        point_at(paths, "127.0.0.1", port)
        assert codes(look("hub over MQTT")) == ["mqtt_refused"]
    assert codes(look("clock")) == ["clock_behind"]


def test_a_certificate_that_ended_and_one_that_was_not_renewed(look: Look, paths: AgentPaths) -> None:
    assert only(look("identity")).level is Level.FINE
    valid = IdentityStore(paths.identity).validity()
    lifetime_s = valid.not_after_s - valid.not_before_s
    assert codes(look("identity", ManualClock(valid.not_after_s + 1))) == ["certificate_ended"]
    assert codes(look("identity", ManualClock(valid.not_before_s + 0.95 * lifetime_s))) == ["certificate_due"]
    assert codes(look("identity", ManualClock(valid.not_before_s - 10))) == ["certificate_early"]


def test_a_key_that_others_may_read_and_one_of_another_device(look: Look, paths: AgentPaths) -> None:
    key = IdentityStore(paths.identity).credentials().key
    key.chmod(0o644)
    assert codes(look("identity")) == ["key_open"]
    key.write_bytes(b"not a key")
    assert only([finding for finding in look("identity") if finding.code != "doctor.key_open"]).level is Level.PROBLEM


def test_a_name_that_nobody_knows(look: Look, paths: AgentPaths) -> None:
    point_at(paths, "no-such-host.invalid", 8443)
    assert codes(look("hub over HTTPS")) == ["https_name"]
    assert codes(look("hub over MQTT")) == ["mqtt_name"]


def test_a_port_at_which_nobody_is(look: Look, paths: AgentPaths) -> None:
    point_at(paths, "127.0.0.1", 1)
    assert codes(look("hub over HTTPS")) == ["https_connection"]
    assert codes(look("hub over MQTT")) == ["mqtt_connection"]


@pytest.mark.parametrize("check", ["hub over HTTPS", "hub over MQTT"])
def test_somebody_else_at_the_hubs_port(look: Look, paths: AgentPaths, check: str) -> None:
    way = check.rpartition(" ")[2].lower()
    for tls, step in ((True, "certificate"), (False, "tls")):
        with listening(paths, tls=tls) as port:
            point_at(paths, "127.0.0.1", port)
            assert codes(look(check)) == [f"{way}_{step}"]


def test_a_device_without_root_and_one_with_old_metadata(look: Look, paths: AgentPaths) -> None:
    assert codes(look("releases")) == ["no_root"]
    paths.tuf.mkdir(exist_ok=True)
    (paths.tuf / "root.json").write_text("{}")
    assert codes(look("releases")) == ["never_refreshed"]
    (paths.tuf / "timestamp.json").write_text('{"signed": {"version": 3, "expires": "2020-01-01T00:00:00Z"}}')
    found = only(look("releases"))
    assert (found.code, found.level) == ("doctor.metadata_old", Level.NOTE)
    (paths.tuf / "timestamp.json").write_text('{"signed": {"version": 3, "expires": "2999-01-01T00:00:00Z"}}')
    assert only(look("releases")).level is Level.FINE
    (paths.tuf / "timestamp.json").write_bytes(b"\x00")
    assert codes(look("releases")) == ["metadata_damaged"]


def test_an_outbox_that_is_full_or_damaged(look: Look, paths: AgentPaths) -> None:
    assert codes(look("outbox")) == ["no_outbox"]
    OutboxStore(paths.outbox, limit_bytes=1 << 20, new_epoch="0" * 16).close()
    assert only(look("outbox")).level is Level.FINE
    paths.settings.write_text("outbox_bytes: 20000\n")
    with closing(sqlite3.connect(paths.outbox)) as database, database:
        row = (1, 1, "event", 0.0, b"", 19_000)
        database.execute(
            "INSERT INTO messages (seq, first_seq, kind, created_s, body, bytes) VALUES (?,?,?,?,?,?)", row
        )
        database.execute("UPDATE meta SET dropped_count = 4")
    assert codes(look("outbox")) == ["outbox_full", "outbox_dropped"]
    paths.outbox.write_bytes(b"rubbish" * 1000)
    assert codes(look("outbox")) == ["outbox_damaged"]


def test_a_version_of_which_a_byte_changed(look: Look, paths: AgentPaths) -> None:
    assert codes(look("versions")) == ["no_models"]
    install_digits(paths)
    assert "digits 1 is whole" in only(look("versions")).message
    file = next(paths.model("digits").slots.glob("*/model.tflite"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert codes(look("versions")) == ["slot_damaged"]
    paths.model("digits").current.unlink()
    assert codes(look("versions")) == ["no_version"]


def test_the_last_installation_that_failed(look: Look, paths: AgentPaths) -> None:
    install_digits(paths)
    assert only(look("installations")).level is Level.FINE
    entry = history.HistoryEntry(
        model="digits",
        version=2,
        bundle_sha256="ab" * 32,
        assignment_counter=2,
        state="rolled_back",
        event="failed",
        reason_code="probe.golden_mismatch",
        reason="The golden outputs differ.",
        active_version=1,
    )
    file = paths.model("digits").root / "history.json"
    history.append(file, entry)
    found = only(look("installations"))
    assert (found.level, found.code) == (Level.WARNING, "doctor.install_failed")
    assert "The golden outputs differ. [probe.golden_mismatch]" in found.message
    for better in ({"state": "committed"}, {"reason_code": "install.cancelled"}):
        history.append(file, msgspec.structs.replace(entry, version=3, **better))
        assert only(look("installations")).level is Level.FINE


def test_the_agent_that_is_down_and_settings_that_keep_it_down(look: Look, paths: AgentPaths) -> None:
    assert codes(look("agent")) == ["agent_not_running"]
    paths.settings.write_text("telemetry: 5\n")
    assert "settings" in only(look("agent")).code


def test_memory_runtime_and_sandbox_of_this_machine(look: Look) -> None:
    assert only(look("runtime")).level is Level.FINE
    assert {finding.level for finding in look("memory")} <= {Level.FINE, Level.WARNING}
    assert {finding.level for finding in look("sandbox")} <= {Level.FINE, Level.WARNING}


def test_a_check_that_hangs_or_breaks_is_a_finding_and_the_others_are_told(paths: AgentPaths) -> None:
    over = threading.Event()

    def hangs(subject: Subject, report: Reporter) -> None:
        over.wait(60)

    def breaks(subject: Subject, report: Reporter) -> None:
        raise ZeroDivisionError("oh")

    def works(subject: Subject, report: Reporter) -> None:
        report.fine("good")

    checks = {"a": hangs, "b": breaks, "c": works}
    findings = examine(Subject(paths, SystemClock()), checks, deadline_s=0.3)
    over.set()
    assert codes(findings) == ["no_answer", "check_failed", "fine"]


def test_the_exit_code_is_that_of_the_worst_and_the_table_leads_to_what_to_do() -> None:
    made = [Finding(check="c", level=level, code="doctor.x", message="It is.", advice="Do.") for level in Level]
    assert [exit_code(made[: count + 1]) for count in range(4)] == [0, 0, EXIT_WARNING, EXIT_PROBLEM]
    assert exit_code([]) == 0
    text = "\n".join(finding_lines(made))
    assert "PROBLEM" in text
    assert "-> Do." in text
    assert "does not work" in text


def test_nothing_is_written_by_looking(paths: AgentPaths) -> None:
    install_digits(paths)
    before = {path: path.stat().st_mtime_ns for path in paths.root.rglob("*")}
    examine(Subject(paths, SystemClock()))
    assert {path: path.stat().st_mtime_ns for path in paths.root.rglob("*")} == before
