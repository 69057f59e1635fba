"""Whether the hub can be reached, over HTTPS and over MQTT, and if not, at which step it ends.

The steps are: the name, the connection, TLS with the hub's certificate verified, and being let in. Over MQTT the last
step is tried only while the agent is down: a second connection with the device's name would end the agent's own.

A clock that is wrong for sure is excused here as it is by the agent, and a certificate that fails by its dates alone is
the clock's fault before it is the hub's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from agent.doctor.subject import Reporter, Subject
from shared.errors import SkerryError
from shared.tls import client_context, excuse_clock

__all__ = ["check_https", "check_mqtt"]

_STEP_S = 6.0
_SKEW_S = 300.0
_NOT_YET_VALID, _EXPIRED = 9, 10  # OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED


def check_https(subject: Subject, report: Reporter) -> None:
    """Requests reach the hub and are answered."""
    from agent.hub_http import HubHttp

    identity, credentials = subject.identity, subject.store.credentials()
    url = urlsplit(identity.hub_url)
    if not _reach(report, "https", url.hostname or "", url.port or 443, subject):
        return
    with HubHttp(identity.hub_url, credentials.hub_ca.read_text(), credentials) as hub:
        try:
            answer = hub.send("GET", "/v1/device/desired", accept=(200, 304))
        except SkerryError as error:
            report.problem("https_refused", f"The hub does not let this device in: {error.message}", error.hint)
            return
    date = answer.headers.get("date")
    if date is not None:
        ahead_s = subject.clock.now() - parsedate_to_datetime(date).timestamp()
        if abs(ahead_s) > _SKEW_S:
            way = "ahead of" if ahead_s > 0 else "behind"
            report.warn("clock_skew", f"This device's clock is {abs(ahead_s):.0f} s {way} the hub's.", "Set the clock.")
    if not report.findings:
        report.fine(f"{identity.hub_url} answers.")


def check_mqtt(subject: Subject, report: Reporter) -> None:
    """The broker lets this device in."""
    identity = subject.identity
    if not _reach(report, "mqtt", identity.mqtt_host, identity.mqtt_port, subject):
        return
    running = subject.running
    if running is not None:
        if running["hub"]["connected"]:
            report.fine(f"The agent is connected to {identity.mqtt_host}:{identity.mqtt_port}.")
        else:
            reason = running["hub"]["problem"] or "it is trying"
            report.problem("mqtt_refused", f"The broker answers, but the agent is not connected: {reason}")
        return
    try:
        asyncio.run(_log_in(subject))
    except SkerryError as error:
        report.problem("mqtt_refused", f"The broker does not let this device in: {error.message}", error.hint)
        return
    report.fine(f"{identity.mqtt_host}:{identity.mqtt_port} lets this device in.")


async def _log_in(subject: Subject) -> None:
    from agent.link.mqtt import MqttConnector

    connector = MqttConnector(timeout_s=_STEP_S, keepalive_s=30)
    connection = await connector.connect(subject.identity, subject.store.credentials(), lambda *_: None)
    await connection.close()


def _blame_clock(report: Reporter, way: str, where: str, verify_code: int) -> None:
    """The certificate is the hub's; only its dates and this machine's clock do not go together."""
    date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    if verify_code == _NOT_YET_VALID:
        report.problem(
            f"{way}_clock",
            f"The clock is wrong: it says {date}, which is before the certificate of {where} was made.",
            "Set the clock, and let it be kept by NTP (`timedatectl set-ntp true`) or a real-time clock.",
        )
        return
    report.problem(
        f"{way}_clock",
        f"By this device's clock ({date}) the certificate of {where} has ended.",
        "Set the clock if that date is wrong. If it is right, the hub needs a new certificate.",
    )


def _reach(report: Reporter, way: str, host: str, port: int, subject: Subject) -> bool:
    """Name, connection and TLS; reports the step that fails."""
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        report.problem(
            f"{way}_name", f"The name {host} cannot be resolved: {error}.", "Check the network and its DNS server."
        )
        return False
    try:
        plain = socket.create_connection((host, port), timeout=_STEP_S)
    except OSError as error:
        report.problem(
            f"{way}_connection",
            f"{host} has no connection for us at port {port}: {error}.",
            "Check that the hub runs, and that a firewall lets this port through.",
        )
        return False
    credentials = subject.store.credentials()
    try:
        context = client_context(credentials.hub_ca)
        context.load_cert_chain(credentials.certificate, credentials.key)
        excuse_clock(context, credentials.known_s)
        with plain, context.wrap_socket(plain, server_hostname=host):
            return True
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
            _blame_clock(report, way, f"{host}:{port}", error.verify_code)
            return False
        report.problem(
            f"{way}_certificate",
            f"The certificate of {host}:{port} is not the hub's: {error.verify_message}.",
            "Check the hub's address and this device's clock; somebody may be in between.",
        )
    except (ssl.SSLError, OSError) as error:
        report.problem(f"{way}_tls", f"TLS with {host}:{port} fails: {error}.", "Check what is at that port.")
    return False
