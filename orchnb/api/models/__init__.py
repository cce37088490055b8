"""Models of API objects, by subject. All can be imported from here, and load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchnb.api.models.automations import Automation
    from orchnb.api.models.base import Model, ModelList
    from orchnb.api.models.blocks import (
        BlockDocument,
        BlockSchema,
        BlockType,
        ServerDefaultResultStorage,
        secret_places,
        unwrapped,
        wrapped,
    )
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
        AnyState,
        Flow,
        FlowRun,
        FlowRunCreateResult,
        FlowRunCreateResults,
        FlowRunGraph,
        FlowRunInput,
        FlowRunOrchestrationResult,
        FlowRunOrchestrationResults,
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
    "AnyState",
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
    "FlowRunCreateResults",
    "FlowRunGraph",
    "FlowRunInput",
    "FlowRunOrchestrationResult",
    "FlowRunOrchestrationResults",
    "GlobalConcurrencyLimit",
    "Log",
    "Model",
    "ModelList",
    "OrchestrationResult",
    "RunHistory",
    "RunHistoryState",
    "ServerDefaultResultStorage",
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
    "secret_places",
    "unwrapped",
    "wrapped",
]

_HOMES = {
    "automations": ("Automation",),
    "base": (
        "Model",
        "ModelList",
    ),
    "blocks": (
        "BlockDocument",
        "BlockSchema",
        "BlockType",
        "ServerDefaultResultStorage",
        "secret_places",
        "unwrapped",
        "wrapped",
    ),
    "concurrency": (
        "ConcurrencyLease",
        "ConcurrencyLimit",
        "GlobalConcurrencyLimit",
        "TakenSlots",
    ),
    "deployments": (
        "Deployment",
        "DeploymentSchedule",
    ),
    "records": (
        "Artifact",
        "ArtifactCollection",
        "Event",
        "EventCount",
        "EventPage",
        "Log",
        "Variable",
    ),
    "runs": (
        "AnyState",
        "Flow",
        "FlowRun",
        "FlowRunCreateResult",
        "FlowRunCreateResults",
        "FlowRunGraph",
        "FlowRunInput",
        "FlowRunOrchestrationResult",
        "FlowRunOrchestrationResults",
        "OrchestrationResult",
        "RunHistory",
        "RunHistoryState",
        "State",
        "StateType",
        "TaskRun",
    ),
    "work_pools": (
        "WorkPool",
        "WorkPoolConcurrencyStatus",
        "WorkQueue",
        "WorkQueueConcurrencyStatus",
        "WorkQueueStatusDetail",
        "Worker",
        "WorkerFlowRun",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
