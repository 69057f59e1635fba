"""From a filter's text to the condition on devices that it stands for now: the groups and the time put in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hub.filters.expansion import check_expansion
from hub.filters.language import parse_filter
from hub.store import groups as store
from hub.store.database import Connection
from hub.store.device_filter import Condition, Surroundings, device_condition
from hub.store.filter_nodes import Node, references
from shared.clock import Clock
from shared.errors import InvalidInput

__all__ = ["DeviceFilters"]


class DeviceFilters:
    """Compiles filters. `online_s`: a device that was heard of within so many seconds is online.

    What a condition chooses may change while a transaction runs, because devices go on reporting: who acts on it asks
    once, and goes on with the ids.
    """

    def __init__(self, clock: Clock, online_s: float) -> None:
        self._clock = clock
        self._online_s = online_s

    def check(self, connection: Connection, text: str) -> Node:
        """The parsed filter, when it can be used; errors `filter.*`, `group.cycle`."""
        node = parse_filter(text)
        check_expansion(node, self.definitions(connection, references(node)))
        return node

    def condition(self, connection: Connection, text: str) -> Condition:
        """The condition on `devices`; errors `filter.*`."""
        return self.condition_for(connection, parse_filter(text))

    def condition_of(self, connection: Connection, group: str) -> Condition:
        """The condition for being a member of a saved group; error `group.not_found`."""
        return self.condition_for(connection, parse_filter(f"group=={store.get_group(connection, group).name}"))

    def condition_for(
        self, connection: Connection, node: Node, instead: Mapping[str, Node | None] | None = None
    ) -> Condition:
        """The condition for a parsed filter. instead: filters of groups to be taken for those that are saved."""
        groups = self.definitions(connection, references(node), instead)
        check_expansion(node, groups)
        now_s = self._clock.now()
        around = Surroundings(now_s=now_s, online_since_s=now_s - self._online_s, groups=groups)
        return device_condition(node, around)

    def definitions(
        self, connection: Connection, names: Iterable[str], instead: Mapping[str, Node | None] | None = None
    ) -> dict[str, Node | None]:
        """The filters of these groups and of all that they name (None: a list of devices); error `filter.group`."""
        found: dict[str, Node | None] = {}
        wanted = set(names)
        while wanted:
            here = {name: node for name, node in (instead or {}).items() if name in wanted}
            saved = store.find_filters(connection, sorted(wanted - here.keys()))
            here |= {name: None if text is None else parse_filter(text) for name, text in saved.items()}
            for name in sorted(wanted - here.keys()):
                raise InvalidInput(
                    "filter.group",
                    f"The filter names the group {name!r:.60}, and there is none.",
                    hint="See `skerry groups list`.",
                )
            found |= here
            wanted = {other for node in here.values() if node is not None for other in references(node)} - found.keys()
        return found
