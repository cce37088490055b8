"""Read responses as models, which are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orchnb.api import models
from orchnb.api.answers import list_of

if TYPE_CHECKING:
    from orchnb.api.models import ModelList
    from orchnb.http.response import PrefectResponse

flow_runs: Callable[[PrefectResponse], ModelList[models.FlowRun]] = list_of(lambda: models.FlowRun)
task_runs: Callable[[PrefectResponse], ModelList[models.TaskRun]] = list_of(lambda: models.TaskRun)
logs: Callable[[PrefectResponse], ModelList[models.Log]] = list_of(lambda: models.Log)
