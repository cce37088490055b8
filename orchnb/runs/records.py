"""Record what code in this process does as a flow run: its states, its logs and its artifacts.

A `Record` decides what to send; it knows no client. `orchnb.runs.recorder` sends it.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from orchnb.api import models
from orchnb.api.operations.flow_runs import (
    create_flow_run,
    delete_flow_run,
    set_flow_run_state,
    update_flow_run_labels,
)
from orchnb.api.operations.logs import create_logs
from orchnb.http.calls import Call, nothing, path
from orchnb.redaction import Secrets
from orchnb.runs.lost_runs import RECORD_TAG, Labels
from orchnb.runs.printed import Printed
from orchnb.runs.rich_output import ArtifactContent

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun, OrchestrationResult

MOST_ARTIFACTS = 20
"""Outputs of one cell that are recorded."""

_LONGEST_MESSAGE = 2_000

RecordSteps = Generator[Call[Any], Any, None]


class Outcome(NamedTuple):
    """How a cell ended."""

    type: str
    """``COMPLETED``, ``FAILED`` or ``CANCELLED``."""
    message: str = ""
    traceback: str = ""


class Record:
    """One flow run that records one cell.

    Args:
        flow: the flow's name.
        flow_id: its id, if it is known.
        parameters: the run's parameters, as JSON values.
        tags: the run's tags, in addition to the one of all recorded runs.
        parent_task_run_id: the task run that it is a subflow of.
        secrets: what is masked in everything that is sent.
    """

    def __init__(
        self,
        flow: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        flow_id: UUID | None = None,
        parent_task_run_id: Any = None,
        secrets: Secrets | None = None,
    ) -> None:
        self._secrets = secrets or Secrets()
        self.flow: str = self._secrets.mask(flow)
        self.flow_id: UUID | None = flow_id
        self.run: FlowRun | None = None
        """The run as the server last reported it; None if it was not created."""
        self.printed: Printed = Printed()
        self.lost_lines: int = 0
        """How many lines could not be sent."""
        self._parameters = self._masked(dict(parameters or {}))
        self._tags = [RECORD_TAG, *self._masked(list(tags))]
        self._parent = parent_task_run_id
        self._lock = threading.Lock()
        self._artifacts: list[ArtifactContent] = []
        self._outputs = 0
        self._is_unwanted = False
        self._is_printed = False

    def _masked(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._secrets.mask(key): self._masked(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._masked(item) for item in value]
        return self._secrets.mask(value) if isinstance(value, str) else value

    def abandon(self) -> bool:
        """Do without the run if it does not exist yet; return whether that is so."""
        with self._lock:
            self._is_unwanted = self.run is None
            return self._is_unwanted

    def add_artifact(self, content: ArtifactContent) -> None:
        """Add an artifact; after too many, further ones are left out."""
        with self._lock:
            if self._outputs < MOST_ARTIFACTS:
                self._outputs += 1
                self._artifacts.append(content)

    def begin(self, labels: Labels) -> RecordSteps:
        """Create the run, in the state Running."""
        run: FlowRun = yield from create_flow_run(
            self.flow if self.flow_id is None else self.flow_id,
            parameters=self._parameters,
            tags=self._tags,
            parent_task_run_id=self._parent,
            state="RUNNING",
            labels=labels,
        )
        self.flow_id = run.flow_id
        with self._lock:
            is_unwanted = self._is_unwanted
            if not is_unwanted:
                self.run = run
        if is_unwanted:  # nobody would finish it
            yield from delete_flow_run(run.id)

    def beat(self, labels: Labels) -> RecordSteps:
        """Write a heartbeat."""
        if self.run is not None:
            yield from update_flow_run_labels(self.run.id, labels)

    def send_lines(self) -> RecordSteps:
        """Send the lines that are there. Those of a failed request are lost: it may have succeeded."""
        while self.run is not None and (lines := self.printed.take()):
            run_id = str(self.run.id)
            entries = [
                {
                    "name": line.stream,
                    "level": line.level,
                    "message": self._secrets.mask(line.text),
                    "timestamp": line.at.isoformat(),
                    "flow_run_id": run_id,
                }
                for line in lines
            ]
            self.lost_lines += len(lines)
            yield from create_logs(entries)
            self.lost_lines -= len(lines)

    def send_artifacts(self) -> RecordSteps:
        """Send the artifacts that are there."""
        while self.run is not None and self._artifacts:
            with self._lock:
                content = self._artifacts.pop(0)
            is_image = content.type == "image"
            yield from Call(
                "POST",
                path("/artifacts/"),
                nothing,
                json={
                    "type": content.type,
                    "data": content.data if is_image else self._secrets.mask(content.data),
                    "description": content.description or None,
                    "flow_run_id": str(self.run.id),
                },
                look="read_artifacts",
            )

    def end(self, outcome: Outcome) -> RecordSteps:
        """Send the lines that are left, and set the run's last state. Artifacts can be sent later."""
        if self.run is None:
            return
        if not self._is_printed:  # this may be the second try
            self._is_printed = True
            if outcome.traceback:
                self.printed.add("traceback", logging.ERROR, outcome.traceback)
            self.printed.finish()
        yield from self.send_lines()
        state = models.State(
            type=outcome.type,
            message=self._secrets.mask(outcome.message)[:_LONGEST_MESSAGE] or None,
        )
        result: OrchestrationResult = yield from set_flow_run_state(self.run.id, state)
        if result.status != "ACCEPT":
            # Somebody else has set another state in the meantime. What happened here is certain.
            result = yield from set_flow_run_state(self.run.id, state, force=True)
        final = result.state or state
        self.run = self.run.model_copy(
            update={
                "state": final,
                "state_type": final.type,
                "state_name": final.name,
                "end_time": final.timestamp or datetime.now().astimezone(),
            }
        )


def typed_parameter(text: str) -> tuple[str, Any]:
    """Return the name and the value of ``NAME=VALUE``; a value that is JSON is read as JSON, any other
    is a text.

    Raises:
        ValueError: it has another form.
    """
    name, sign, value = text.partition("=")
    if not sign or not re.fullmatch(r"[^\W\d]\w*", name):
        raise ValueError(f"a parameter should look like NAME=VALUE, not {text!r}")
    try:
        return name, json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return name, value


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and the infinities are no JSON (RFC 8259, 6)
