"""Tasks to nodes and replies from them, through SuperLink's own state (no sockets, no polling of ourselves).

A reply is only taken apart here, not believed: what it holds is handed on as bytes and plain values for
`hub.federated.admission`. A reply that cannot even be taken apart is a failure of that task and of nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import numpy as np

from hub.federated.flower.superlink import SuperLink
from hub.federated.tasks import Failure, Reply, Task

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict  # isort: skip
from flwr.app.message import remove_content_from_message
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

__all__ = ["Failure", "Grid", "Reply", "Task"]

_ARRAYS, _CONFIG, _METRICS, _EXAMPLES = "arrays", "config", "metrics", "num-examples"
_ANSWER, _UPDATE = "answer", "update"
_PAYLOAD = "payload"


class Grid:
    """The tasks that are out. Not thread-safe: one thread gives and collects.

    grace_s: for so long a node that is late may still be fetching its task or sending its reply; it shall not break.
    """

    def __init__(self, superlink: SuperLink, grace_s: float = 30.0) -> None:
        self._grace_s = grace_s
        self._over: list[tuple[float, str]] = []
        self._state = superlink.state
        self._run_id = superlink.run_id
        self._out: dict[str, int] = {}
        self._incomplete: list[Message] = []

    def nodes(self) -> set[int]:
        """The nodes that are connected now."""
        return set(self._state.get_nodes(self._run_id))

    def push(self, tasks: Sequence[Task]) -> list[str]:
        """Give tasks to their nodes; their ids, in order ("" for one that Flower did not take)."""
        session = self._state.start_session(self._run_id)
        ids, objects, missing = [], {}, {}
        with no_object_id_recompute():
            for message in map(self._message, tasks):
                message.metadata.__dict__["_message_id"] = message.object_id
                bare = remove_content_from_message(message)
                taken, wanted = self._state.store_message_and_object_tree(bare, get_object_tree(message), session)
                ids.append(message.object_id if taken else "")
                if taken:
                    objects.update(get_all_nested_objects(message))
                    missing.update(dict.fromkeys(wanted))
            for object_id in missing:
                self._state.store_object(self._run_id, session, object_id, objects[object_id].deflate())
        self._out.update((task_id, task.node_id) for task_id, task in zip(ids, tasks, strict=True) if task_id)
        return ids

    def pull(self) -> list[Reply | Failure]:
        """What has come since the last call. Never waits."""
        outcomes: list[Reply | Failure] = []
        waiting = set(self._out) - {m.metadata.reply_to_message_id for m in self._incomplete}
        arrived = self._state.get_message_res(message_ids=waiting, run_id=self._run_id) if waiting else []
        pending, self._incomplete = [*self._incomplete, *arrived], []
        self._sweep()
        for message in pending:
            outcome = self._outcome(message)
            if outcome is None:
                self._incomplete.append(message)
            else:
                outcomes.append(outcome)
                self._forget(outcome.task_id, grace_s=self._grace_s if message.has_error() else 0.0)
        return outcomes

    def give_up(self, tasks: Collection[str] | None = None) -> list[Failure]:
        """Forget these tasks (all that are out unless said): no reply to them will be taken any more."""
        over = {t: n for t, n in self._out.items() if tasks is None or t in tasks}
        late = [Failure(task_id=t, node_id=n, reason="The reply did not come in time.") for t, n in over.items()]
        for failure in late:
            self._forget(failure.task_id, grace_s=self._grace_s)
        self._incomplete = [m for m in self._incomplete if m.metadata.reply_to_message_id in self._out]
        return late

    def _message(self, task: Task) -> Message:
        config = ConfigRecord({**task.config, **({_PAYLOAD: task.payload} if task.payload else {})})
        content = RecordDict({_CONFIG: config})
        if task.weights.size:
            content[_ARRAYS] = ArrayRecord([task.weights])
        return Message(content, dst_node_id=task.node_id, message_type=task.kind, ttl=task.ttl_s)

    def _outcome(self, message: Message) -> Reply | Failure | None:
        """None while parts of the reply are still on their way."""
        task_id = message.metadata.reply_to_message_id
        node_id = self._out.get(task_id, 0)
        if message.has_error():
            return Failure(task_id=task_id, node_id=node_id, reason=message.error.reason or "The node failed.")
        store, message_id = self._state.object_store, message.metadata.message_id
        contents: dict[str, bytes] = {}
        try:
            for node in iterate_object_tree(store.get_object_tree(message_id)):  # a node may have had it deleted
                content = store.get(node.object_id)
                if not content:
                    return None
                contents[node.object_id] = content
            return _reply(task_id, node_id, inflate_object_from_contents(message_id, contents))
        except Exception as error:  # noqa: BLE001 - Flower raises what it likes on a hostile reply; it costs one reply
            return Failure(task_id=task_id, node_id=node_id, reason=f"The reply is malformed: {error}."[:300])

    def _forget(self, task_id: str, *, grace_s: float = 0.0) -> None:
        """Also what both messages held, which Flower would keep for ever; a node may need it for another `grace_s`."""
        self._out.pop(task_id, None)
        reply_id = self._state.message_ins_id_to_message_res_id.get(task_id)
        self._state.delete_messages(message_ins_ids={task_id})
        self._over.extend((time.monotonic() + grace_s, over) for over in (task_id, reply_id) if over)

    def _sweep(self) -> None:
        now = time.monotonic()
        for at, message_id in self._over:
            if at <= now:
                self._state.object_store.delete(message_id)
        self._over = [(at, message_id) for at, message_id in self._over if at > now]


def _reply(task_id: str, node_id: int, message: object) -> Reply:
    if not isinstance(message, Message):
        raise ValueError("no message")
    content = message.content
    if _CONFIG in content.config_records:
        payload = content.config_records[_CONFIG][_PAYLOAD]
        if not isinstance(payload, bytes):
            raise ValueError("no answer")
        return Reply(task_id=task_id, node_id=node_id, examples=1, metrics={}, update=payload)
    if _ANSWER in content.config_records:
        return _answer(task_id, node_id, dict(content.config_records[_ANSWER]))
    metrics: dict[str, object] = dict(content.metric_records[_METRICS])
    examples = metrics.pop(_EXAMPLES, None)
    arrays = content.array_records[_ARRAYS].to_numpy_ndarrays() if _ARRAYS in content.array_records else []
    if len(arrays) > 1:
        raise ValueError("more than one array")
    array = arrays[0] if arrays else None
    update = array.tobytes() if array is not None and array.dtype == np.uint8 else None
    weights = array if update is None else None
    return Reply(task_id=task_id, node_id=node_id, examples=examples, metrics=metrics, update=update, weights=weights)


def _answer(task_id: str, node_id: int, values: dict[str, object]) -> Reply:
    """What our own node answers, in one record; a stock node sends arrays and metrics."""
    update, examples = values.pop(_UPDATE, None), values.pop(_EXAMPLES, None)
    if not isinstance(update, bytes):
        raise ValueError("no update")
    return Reply(task_id=task_id, node_id=node_id, examples=examples, metrics=values, update=update or None)
