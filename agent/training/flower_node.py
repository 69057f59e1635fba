"""This device as a node of a Flower federation: the only place in the agent that knows Flower.

Only the training process imports it. No program is ever fetched: what runs is what is installed. Every wait is bounded,
and a failure of one task is told to the hub as that task's failure.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["FLWR_LOG_LEVEL"] = "WARNING"

import httpx
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.proto.fleet_pb2 import DeactivateNodeRequest
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree, push_objects
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.fleet_http_connection import http_request_response
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from numpy.typing import NDArray

from agent.training.orders import Answer, Order
from shared.errors import InvalidInput, SkerryError, Unauthorised, Unavailable

__all__ = ["Answer", "Node", "Order", "join"]

Vector = NDArray[np.float32]
_LOG = logging.getLogger(__name__)
_ERROR_CODE = 0
_MAX_REASON_CHARS = 300


class Node:
    """A connected node; made by `join`."""

    def __init__(self, node_id: int, connection: tuple[Any, ...]) -> None:
        self.node_id = node_id
        self._connection = connection

    def serve_one(self, work: Callable[[Order], Answer]) -> bool:
        """Take one order, work on it and answer; False when there was none.

        Errors: `training.link` (retriable) when the hub cannot be reached, `training.expelled` when it refuses.
        """
        with _told():
            return self._serve_one(work)

    def _serve_one(self, work: Callable[[Order], Answer]) -> bool:
        receive, send, _get_run, _get_fab, pull_object, push_object, confirm = self._connection
        received = receive()
        if received is None:
            return False
        header, tree = received
        run_id = header.metadata.run_id
        order = pull_and_inflate_object_from_tree(
            tree,
            lambda object_id: pull_object(run_id, object_id),
            lambda object_id: confirm(run_id, object_id),
            return_type=Message,
        )
        order.metadata.__dict__["_message_id"] = tree.object_id
        started = time.monotonic()
        reply = self._answered(order, work)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        with no_object_id_recompute():
            objects = get_all_nested_objects(reply)
            ids, session = send(reply, get_object_tree(reply), time.monotonic() - started)
            push_objects(
                objects,
                lambda object_id, content: push_object(run_id, session, object_id, content),
                object_ids_to_push=set(ids),
            )
        return True

    def _answered(self, message: Message, work: Callable[[Order], Answer]) -> Message:
        try:
            return _reply(message, work(_order(message)))
        except Exception as error:  # noqa: BLE001 - whatever it was, the hub hears of it and the node goes on
            _LOG.warning("a training task failed: %r", error, exc_info=not isinstance(error, SkerryError))
            name = error.code if isinstance(error, SkerryError) else type(error).__name__
            reason = f"{name}: {error}"[:_MAX_REASON_CHARS]
            return Message(Error(code=_ERROR_CODE, reason=reason), reply_to=message)


@contextmanager
def join(
    address: str, ca: Path, key: EllipticCurvePrivateKey, *, retries: int = 3, wait_s: float = 10.0, before: int = 0
) -> Iterator[Node]:
    """Connect to the federation at `address` (host:port) with the device's own key, and leave it at the end.

    before: the node as which this device joined without leaving, because it died; it leaves first, since Flower lets
    nobody join twice until a minute has passed. A request is tried `retries` times more, for at most `wait_s` seconds.
    Raises SystemExit when the hub refuses; a node that is expelled later gets KeyboardInterrupt in the main thread
    (Flower sends its own process a SIGINT).
    """
    keys = (key, key.public_key())
    if before:
        _leave(address, ca.read_bytes(), keys, before)
    with http_request_response(address, False, ca.read_bytes(), keys, retries, wait_s) as connection:
        yield Node(connection[0], connection[1:])


def _leave(address: str, ca: bytes, keys: tuple[Any, Any], node_id: int) -> None:
    """Leave as this node; a hub that knows it no more, or is not there, is fine."""
    interceptors = (RuntimeVersionHttpInterceptor(component_name="SuperNode"), NodeAuthHttpInterceptor(*keys))
    with FleetHttpClient.from_server_address(address, False, ca, interceptors=interceptors) as client:
        try:
            client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))
        except (httpx.HTTPError, RuntimeError, OSError) as error:
            _LOG.info("the node of before could not leave: %s", error)


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong on the way, as our own errors."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status >= 500:
            raise Unavailable("training.link", f"The hub answered with {status}.", retriable=True) from error
        raise Unauthorised("training.expelled", f"The hub does not take part with this device ({status}).") from error
    except (httpx.HTTPError, OSError, TimeoutError) as error:
        reason = f"The hub cannot be reached: {error or type(error).__name__}."[:_MAX_REASON_CHARS]
        raise Unavailable("training.link", reason, retriable=True) from error


def _order(message: Message) -> Order:
    content = message.content
    weights: Any = ()
    if "arrays" in content.array_records:
        (weights,) = content.array_records["arrays"].to_numpy_ndarrays()
    config: dict[str, Any] = dict(content.config_records["config"])
    payload = config.pop("payload", b"")
    if not isinstance(payload, bytes):
        raise InvalidInput("training.order", "The order's payload is not one.")
    meta = message.metadata
    return Order(
        kind=meta.message_type,
        weights=np.asarray(weights, np.float32),
        config=config,
        expires_s=meta.created_at + meta.ttl,
        payload=payload,
    )


def _reply(message: Message, answer: Answer) -> Message:
    """In one record, because each record costs the hub a request; what is sealed stays as it is."""
    if "payload" in message.content.config_records["config"]:
        return Message(RecordDict({"config": ConfigRecord({"payload": answer.update})}), reply_to=message)
    content = ConfigRecord({**answer.metrics, "num-examples": answer.examples, "update": answer.update})
    return Message(RecordDict({"answer": content}), reply_to=message)
