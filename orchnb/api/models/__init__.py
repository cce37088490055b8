"""Models of API objects, by subject. All can be imported from here, and load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchnb.api.models.automations import (
        Action,
        Automation,
        CompositeTrigger,
        CompoundTrigger,
        EventTrigger,
        MetricTrigger,
        MetricTriggerQuery,
        ResourceTrigger,
        SequenceTrigger,
        Trigger,
    )
    from orchnb.api.models.base import (
        EnumText,
        Model,
        ModelList,
        Part,
    )
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
    from orchnb.api.models.creators import (
        CreatedBy,
        UpdatedBy,
    )
    from orchnb.api.models.deployments import (
        ConcurrencyOptions,
        Deployment,
        DeploymentSchedule,
        VersionInfo,
    )
    from orchnb.api.models.records import (
        Artifact,
        ArtifactCollection,
        Event,
        EventCount,
        EventPage,
        Log,
        RelatedResource,
        Resource,
        Variable,
    )
    from orchnb.api.models.runs import (
        Flow,
        FlowRun,
        FlowRunCreateResult,
        FlowRunCreateResults,
        FlowRunGraph,
        FlowRunInput,
        FlowRunOrchestrationResult,
        FlowRunOrchestrationResults,
        OrchestrationDetails,
        OrchestrationResult,
        RunHistory,
        RunHistoryState,
        TaskRun,
        TaskRunInput,
    )
    from orchnb.api.models.schedules import (
        CronSchedule,
        IntervalSchedule,
        RRuleSchedule,
        Schedule,
    )
    from orchnb.api.models.states import (
        AnyState,
        FlowRunPolicy,
        State,
        StateDetails,
        StateType,
        TaskRunPolicy,
    )
    from orchnb.api.models.work_pools import (
        FlowRunSlot,
        Worker,
        WorkerFlowRun,
        WorkPool,
        WorkPoolConcurrencyStatus,
        WorkPoolStorage,
        WorkQueue,
        WorkQueueConcurrencyStatus,
        WorkQueueFilter,
        WorkQueueHealthPolicy,
        WorkQueueSlots,
        WorkQueueStatusDetail,
    )

__all__ = [
    "Action",
    "AnyState",
    "Artifact",
    "ArtifactCollection",
    "Automation",
    "BlockDocument",
    "BlockSchema",
    "BlockType",
    "CompositeTrigger",
    "CompoundTrigger",
    "ConcurrencyLease",
    "ConcurrencyLimit",
    "ConcurrencyOptions",
    "CreatedBy",
    "CronSchedule",
    "Deployment",
    "DeploymentSchedule",
    "EnumText",
    "Event",
    "EventCount",
    "EventPage",
    "EventTrigger",
    "Flow",
    "FlowRun",
    "FlowRunCreateResult",
    "FlowRunCreateResults",
    "FlowRunGraph",
    "FlowRunInput",
    "FlowRunOrchestrationResult",
    "FlowRunOrchestrationResults",
    "FlowRunPolicy",
    "FlowRunSlot",
    "GlobalConcurrencyLimit",
    "IntervalSchedule",
    "Log",
    "MetricTrigger",
    "MetricTriggerQuery",
    "Model",
    "ModelList",
    "OrchestrationDetails",
    "OrchestrationResult",
    "Part",
    "RRuleSchedule",
    "RelatedResource",
    "Resource",
    "ResourceTrigger",
    "RunHistory",
    "RunHistoryState",
    "Schedule",
    "SequenceTrigger",
    "ServerDefaultResultStorage",
    "State",
    "StateDetails",
    "StateType",
    "TakenSlots",
    "TaskRun",
    "TaskRunInput",
    "TaskRunPolicy",
    "Trigger",
    "UpdatedBy",
    "Variable",
    "VersionInfo",
    "WorkPool",
    "WorkPoolConcurrencyStatus",
    "WorkPoolStorage",
    "WorkQueue",
    "WorkQueueConcurrencyStatus",
    "WorkQueueFilter",
    "WorkQueueHealthPolicy",
    "WorkQueueSlots",
    "WorkQueueStatusDetail",
    "Worker",
    "WorkerFlowRun",
    "secret_places",
    "unwrapped",
    "wrapped",
]

_HOMES = {
    "automations": (
        "Action",
        "Automation",
        "CompositeTrigger",
        "CompoundTrigger",
        "EventTrigger",
        "MetricTrigger",
        "MetricTriggerQuery",
        "ResourceTrigger",
        "SequenceTrigger",
        "Trigger",
    ),
    "base": (
        "EnumText",
        "Model",
        "ModelList",
        "Part",
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
    "creators": (
        "CreatedBy",
        "UpdatedBy",
    ),
    "deployments": (
        "ConcurrencyOptions",
        "Deployment",
        "DeploymentSchedule",
        "VersionInfo",
    ),
    "records": (
        "Artifact",
        "ArtifactCollection",
        "Event",
        "EventCount",
        "EventPage",
        "Log",
        "RelatedResource",
        "Resource",
        "Variable",
    ),
    "runs": (
        "Flow",
        "FlowRun",
        "FlowRunCreateResult",
        "FlowRunCreateResults",
        "FlowRunGraph",
        "FlowRunInput",
        "FlowRunOrchestrationResult",
        "FlowRunOrchestrationResults",
        "OrchestrationDetails",
        "OrchestrationResult",
        "RunHistory",
        "RunHistoryState",
        "TaskRun",
        "TaskRunInput",
    ),
    "schedules": (
        "CronSchedule",
        "IntervalSchedule",
        "RRuleSchedule",
        "Schedule",
    ),
    "states": (
        "AnyState",
        "FlowRunPolicy",
        "State",
        "StateDetails",
        "StateType",
        "TaskRunPolicy",
    ),
    "work_pools": (
        "FlowRunSlot",
        "Worker",
        "WorkerFlowRun",
        "WorkPool",
        "WorkPoolConcurrencyStatus",
        "WorkPoolStorage",
        "WorkQueue",
        "WorkQueueConcurrencyStatus",
        "WorkQueueFilter",
        "WorkQueueHealthPolicy",
        "WorkQueueSlots",
        "WorkQueueStatusDetail",
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
