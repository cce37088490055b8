"""What is known of objects that a result refers to by id: names of flows, last runs of deployments.

The API's flow runs and deployments have the id of their flow, not its name. Where results are looked at,
in a notebook, a read asks for the names that are not known yet. Elsewhere it makes no such request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun

V = TypeVar("V")


class _Memory(Generic[V]):
    """The values that were set last, by id, at most ``size``."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[UUID, V] = OrderedDict()

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: UUID | None) -> V | None:
        """Return the value of an id; None if it is not known."""
        return None if key is None else self._values.get(key)

    def set(self, key: UUID, value: V) -> None:
        """Remember a value."""
        self._values.pop(key, None)
        self._values[key] = value
        while len(self._values) > self._size:
            self._values.popitem(last=False)


class RelatedObjects:
    """What this process knows of related objects. Ids of flows and deployments are unique everywhere, and
    a flow's name does not change."""

    def __init__(self) -> None:
        self.wanted: bool = False
        """Whether results are looked at, so that reads ask for what is not known."""
        self.flow_names: _Memory[str] = _Memory(10_000)
        self.task_names: _Memory[str] = _Memory(10_000)
        """The names of task runs."""
        self.last_runs: _Memory[FlowRun] = _Memory(1_000)
        """The last run of each deployment, as of when the deployment was read last."""

    def unknown_flows(self, flow_ids: Iterable[UUID | None]) -> list[UUID]:
        """Return the ids of the flows whose names are not known, each once."""
        ids = dict.fromkeys(flow_id for flow_id in flow_ids if flow_id is not None)
        return [flow_id for flow_id in ids if flow_id not in self.flow_names]


related_objects: RelatedObjects = RelatedObjects()
