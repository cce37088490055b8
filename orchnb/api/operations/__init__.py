"""The API's operations, each defined once, grouped by subject.

`orchnb.api.methods` turns a function that returns a `Call` into a method of both clients. Names and
arguments are those of Prefect's client.
"""

from orchnb.api.operations.artifacts import ArtifactOperations
from orchnb.api.operations.automations import AutomationOperations
from orchnb.api.operations.blocks import BlockOperations
from orchnb.api.operations.concurrency import ConcurrencyOperations
from orchnb.api.operations.deployments import DeploymentOperations
from orchnb.api.operations.events import EventOperations
from orchnb.api.operations.flow_runs import FlowRunOperations
from orchnb.api.operations.flows import FlowOperations
from orchnb.api.operations.iterators import LongReads
from orchnb.api.operations.logs import LogOperations
from orchnb.api.operations.server import ServerOperations
from orchnb.api.operations.task_runs import TaskRunOperations
from orchnb.api.operations.variables import VariableOperations
from orchnb.api.operations.work_pools import WorkPoolOperations


class Operations(
    ServerOperations,
    FlowOperations,
    FlowRunOperations,
    TaskRunOperations,
    DeploymentOperations,
    WorkPoolOperations,
    LogOperations,
    VariableOperations,
    ArtifactOperations,
    ConcurrencyOperations,
    AutomationOperations,
    EventOperations,
    BlockOperations,
    LongReads,
):
    """The operations of both clients."""
