"""What a front end makes of a kernel's messages: every output in its cell, displays updated in place.

Messages are taken in the order in which they come, for whichever cell; as JupyterLab does, one that
comes for a cell that has ended is shown in that cell.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty
from typing import Any

from tests.notebook.kernels import Kernel


@dataclass
class Page:
    """A notebook's page; cells are known by the id of their request."""

    kernel: Kernel
    outputs: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """For each cell, its outputs: content dicts with ``msg_type``."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """All that came, in order, each with ``arrived``: seconds."""
    comms: set[str] = field(default_factory=set)
    """The widgets' comms that are open."""
    idle: set[str] = field(default_factory=set)
    _subshell: str = ""

    def begin(self, source: str, subshell: str | None = None) -> str:
        """Send a cell; return its id."""
        client = self.kernel.client
        content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}}
        content |= {"allow_stdin": False, "stop_on_error": False}
        message = client.session.msg("execute_request", content)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def run(self, source: str) -> str:
        """Run a cell to its end; return its id."""
        cell = self.begin(source)
        self.until(lambda: cell in self.idle)
        return cell

    def until(self, condition: Callable[[], object], timeout: float = 30) -> None:
        """Take messages until something holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"not in time; shown so far: {dict(self.outputs)}"
            try:
                self._take(self.kernel.client.get_iopub_msg(timeout=0.1))
            except Empty:
                continue

    def text(self, cell: str) -> str:
        """All that stands below a cell, as text."""
        return "\n".join(
            output["data"].get("text/plain", "") if "data" in output else output.get("text", "")
            for output in self.outputs[cell]
        )

    def html(self, cell: str) -> str:
        """All that stands below a cell, as html."""
        return "\n".join(o["data"].get("text/html", "") for o in self.outputs[cell] if "data" in o)

    def buttons(self, cell: str) -> bool:
        """Whether a widget stands below a cell."""
        kind = "application/vnd.jupyter.widget-view+json"
        return any(kind in output.get("data", {}) for output in self.outputs[cell])

    def press(self, description: str) -> None:
        """Press the newest button of that description, as ipywidgets' front end does."""
        opened = [m for m in self.messages if m["msg_type"] == "comm_open"]
        button = next(
            message["content"]["comm_id"]
            for message in reversed(opened)
            if message["content"]["data"]["state"].get("description") == description
        )
        data = {"method": "custom", "content": {"event": "click"}}
        message = self.kernel.client.session.msg("comm_msg", {"comm_id": button, "data": data})
        # As JupyterLab does: the main shell hears nothing while a cell awaits, before ipykernel 7.4.
        message["header"]["subshell_id"] = self._subshell = self._subshell or self.new_subshell()
        self.kernel.client.shell_channel.send(message)

    def new_subshell(self) -> str:
        """The id of a shell of the kernel's beside the main one; ipykernel has them from 7 on."""
        client = self.kernel.client
        client.control_channel.send(client.session.msg("create_subshell_request", {}))
        return str(client.get_control_msg(timeout=10)["content"]["subshell_id"])

    def displays(self, cell: str) -> list[dict[str, Any]]:
        """Every message that has put or changed a display of that cell, in order."""
        ids = {
            m["content"]["transient"].get("display_id")
            for m in self.messages
            if m["msg_type"] == "display_data" and m["parent_header"].get("msg_id") == cell
        }
        kinds = ("display_data", "update_display_data")
        shown = [m for m in self.messages if m["msg_type"] in kinds]
        return [m for m in shown if m["content"]["transient"].get("display_id") in ids]

    def _take(self, message: dict[str, Any]) -> None:
        self.messages.append({**message, "arrived": time.monotonic()})
        kind, content = message["msg_type"], message["content"]
        cell = message["parent_header"].get("msg_id", "")
        if kind == "status":
            if content["execution_state"] == "idle":
                self.idle.add(cell)
        elif kind == "comm_open":
            self.comms.add(content["comm_id"])
        elif kind == "comm_close":
            self.comms.discard(content["comm_id"])
        elif kind == "update_display_data":
            for outputs in self.outputs.values():
                for output in outputs:
                    if output.get("transient") == content["transient"]:
                        output["data"] = content["data"]
        elif kind in ("display_data", "execute_result", "stream", "error"):
            self.outputs[cell].append({"msg_type": kind, **content})
