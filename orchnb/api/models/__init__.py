"""What comes over the wire, by subject; all of it can be had from here."""

from orchnb.api.models.automations import Automation
from orchnb.api.models.base import Model, ModelList
from orchnb.api.models.blocks import BlockDocument, BlockSchema, BlockType
from orchnb.api.models.concurrency import (
    ConcurrencyLease,
    ConcurrencyLimit,
    GlobalConcurrencyLimit,
    TakenSlots,
)
from orchnb.api.models.deployments import Deployment, DeploymentSchedule
from orchnb.api.models.records import (
    Artifact,
    ArtifactCollection,
    Event,
    EventCount,
    EventPage,
    Log,
    Variable,
)
from orchnb.api.models.runs import (
    Flow,
    FlowRun,
    FlowRunCreateResult,
    FlowRunGraph,
    FlowRunInput,
    FlowRunOrchestrationResult,
    OrchestrationResult,
    RunHistory,
    RunHistoryState,
    State,
    StateType,
    TaskRun,
)
from orchnb.api.models.work_pools import (
    Worker,
    WorkerFlowRun,
    WorkPool,
    WorkPoolConcurrencyStatus,
    WorkQueue,
    WorkQueueConcurrencyStatus,
    WorkQueueStatusDetail,
)

__all__ = [
    "Artifact",
    "ArtifactCollection",
    "Automation",
    "BlockDocument",
    "BlockSchema",
    "BlockType",
    "ConcurrencyLease",
    "ConcurrencyLimit",
    "Deployment",
    "DeploymentSchedule",
    "Event",
    "EventCount",
    "EventPage",
    "Flow",
    "FlowRun",
    "FlowRunCreateResult",
    "FlowRunGraph",
    "FlowRunInput",
    "FlowRunOrchestrationResult",
    "GlobalConcurrencyLimit",
    "Log",
    "Model",
    "ModelList",
    "OrchestrationResult",
    "RunHistory",
    "RunHistoryState",
    "State",
    "StateType",
    "TakenSlots",
    "TaskRun",
    "Variable",
    "WorkPool",
    "WorkPoolConcurrencyStatus",
    "WorkQueue",
    "WorkQueueConcurrencyStatus",
    "WorkQueueStatusDetail",
    "Worker",
    "WorkerFlowRun",
]
