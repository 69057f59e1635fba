"""What a filter comes to when the groups that it names are put in: bounded, and never in a circle. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hub.store.filter_nodes import Both, Comparison, Either, Node, Pattern
from shared import limits
from shared.errors import Conflict, TooLarge

__all__ = ["check_expansion"]

Cost = tuple[int, int]
"""Values that are compared, and the depth to which conditions nest."""


def check_expansion(node: Node, groups: Mapping[str, Node | None], name: str = "") -> None:
    """Return if `node` (the filter of the group `name`) can be put into SQL; `group.cycle`, `filter.too_large`.

    groups: the filter of each group that is named, directly or by another; None: a list of devices.
    """
    terms, depth = _Expansion(groups).cost(node, (name,) if name else ())
    if terms > limits.MAX_FILTER_EXPANDED_TERMS_COUNT or depth > limits.MAX_FILTER_EXPANDED_DEPTH_COUNT:
        raise TooLarge(
            "filter.too_large",
            f"With the groups that it names, the filter compares {terms} values and nests {depth} deep.",
            hint=f"At most {limits.MAX_FILTER_EXPANDED_TERMS_COUNT} values and"
            f" {limits.MAX_FILTER_EXPANDED_DEPTH_COUNT} levels; make the groups simpler, or use tags.",
        )


class _Expansion:
    def __init__(self, groups: Mapping[str, Node | None]) -> None:
        self._groups = groups
        self._known: dict[str, Cost] = {}

    def cost(self, node: Node, path: tuple[str, ...]) -> Cost:
        match node:
            case Both(parts) | Either(parts):
                costs = [self.cost(part, path) for part in parts]
                return sum(terms for terms, _ in costs), 1 + max(depth for _, depth in costs)
            case Comparison(field="group", values=values):
                inner = [self._group(value.pieces[0], path) for value in values if isinstance(value, Pattern)]
                return sum(terms for terms, _ in inner), 1 + max(depth for _, depth in inner)
            case Comparison(values=values):
                return len(values), 1
            case _:
                return 1, 1

    def _group(self, name: str, path: tuple[str, ...]) -> Cost:
        if name in path:
            circle = " -> ".join((*path[path.index(name) :], name))
            raise Conflict(
                "group.cycle", f"The group {name} would contain itself: {circle}.", hint="Take one of them out."
            )
        if name not in self._known:
            inner = self._groups[name]
            self._known[name] = (1, 1) if inner is None else self.cost(inner, (*path, name))
        return self._known[name]
