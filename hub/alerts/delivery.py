"""Telling people: a signed webhook, mail, MQTT, or a line in the log. Each way has a deadline and fails with one error.

A webhook carries `Skerry-Signature: t=<seconds since 1970>,v1=<hex>`, where the hex is HMAC-SHA256 with the route's
secret over `<seconds>.<body>`: a receiver refuses what is old or does not match. Error `alerts.not_delivered`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx

from hub.alerts.config import EmailRoute, MqttRoute, Route, WebhookRoute
from shared.errors import SkerryError, Unavailable

__all__ = ["SIGNATURE_HEADER", "Publish", "deliver", "signature"]

SIGNATURE_HEADER = "Skerry-Signature"
_LOG = logging.getLogger(__name__)
_TIMEOUT_S = 10.0
Publish = Callable[[str, bytes], None]
"""Hands a message to the hub's broker: topic and payload. Blocks until it is taken, or fails with one `SkerryError`."""


def signature(secret: bytes, at_s: int, body: bytes) -> str:
    """The value of the header for a body."""
    digest = hmac.new(secret, f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def deliver(route: Route, payload: str, now: float, publish: Publish | None = None) -> None:
    """Hand the payload (JSON) to a route; `alerts.not_delivered` (retriable) if it is not taken."""
    try:
        if isinstance(route, WebhookRoute):
            _post(route, payload.encode(), int(now))
        elif isinstance(route, EmailRoute):
            _mail(route, json.loads(payload))
        elif isinstance(route, MqttRoute):
            _publish(route, payload.encode(), publish)
        else:
            _LOG.warning("alert %s", payload)
    except (OSError, SkerryError, httpx.HTTPError, httpx.InvalidURL, smtplib.SMTPException) as error:
        raise Unavailable(
            "alerts.not_delivered", f"The route did not take it: {type(error).__name__}: {error}"[:300], retriable=True
        ) from error


def _post(route: WebhookRoute, body: bytes, at_s: int) -> None:
    secret = Path(route.secret_file).read_bytes().strip()
    if len(secret) < 16:
        raise OSError("the secret has fewer than 16 bytes")
    headers = {"Content-Type": "application/json", SIGNATURE_HEADER: signature(secret, at_s, body)}
    answer = httpx.post(route.url, content=body, headers=headers, timeout=_TIMEOUT_S, follow_redirects=False)
    answer.raise_for_status()
    if answer.is_redirect:
        raise OSError("the address leads elsewhere")


def _publish(route: MqttRoute, body: bytes, publish: Publish | None) -> None:
    if publish is None:
        raise OSError("this hub has no broker")
    publish(route.topic, body)


def _mail(route: EmailRoute, payload: dict[str, Any]) -> None:
    message = EmailMessage()
    alert = payload["alert"]
    message["Subject"] = f"[{alert['severity']}] {payload['event']}: {alert['summary']} ({alert['model']})"
    message["From"], message["To"] = route.sender, ", ".join(route.to)
    message.set_content(json.dumps(payload, indent=2, ensure_ascii=False))
    context = ssl.create_default_context()
    if route.security == "tls":
        client: smtplib.SMTP = smtplib.SMTP_SSL(route.host, route.port, timeout=_TIMEOUT_S, context=context)
    else:
        client = smtplib.SMTP(route.host, route.port, timeout=_TIMEOUT_S)
    with client:
        if route.security == "starttls":
            client.starttls(context=context)
        if route.user:
            client.login(route.user, Path(route.password_file).read_text().strip())
        client.send_message(message)
