"""Flow runs that orchnb records as parents of the runs that Prefect's engine starts in this process.

Prefect finds the parent in its own context, ``prefect.context.FlowRunContext``, which is public. For
Prefect's engine, code that runs with such a context is a part of its run.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from orchnb.environment import exported
from orchnb.prefect_server import internals
from orchnb.prefect_server.client_settings import URL_VARIABLE
from orchnb.settings import Settings


class ParentRuns:
    """Makes flow runs the parents of Prefect's runs. Clients of Prefect's are expensive to create, so one
    is kept for each address."""

    def __init__(self) -> None:
        self._address: object = None
        self._client: Any = None

    def context(
        self, run: Mapping[str, Any], settings: Settings, *, load: bool
    ) -> AbstractContextManager[Any] | None:
        """Return the context in which a flow run is the parent; None if Prefect's flows are not used
        here, or use another server.

        Args:
            run: the run, as the server describes it.
            settings: those of the client that created it.
            load: whether to import Prefect's flows if they are not imported yet.
        """
        if not internals.are_flows_loaded(load=load):
            return None
        url, _ = address = internals.client_address()
        theirs = str(url or "").rstrip("/")
        if not theirs or theirs not in (
            settings.api_url,
            (exported(URL_VARIABLE) or "").rstrip("/"),
        ):
            return None
        if self._client is None or self._address != address:
            self._client, self._address = internals.new_client(), address
        # What the engine uses; more may be unknown to this version of Prefect.
        names = ("id", "flow_id", "name", "parameters", "tags", "labels", "created", "start_time")
        kept = {name: run[name] for name in names if run.get(name) is not None}
        state = {"type": "RUNNING", "name": "Running"}
        return internals.run_context({**kept, "state": state}, self._client)
