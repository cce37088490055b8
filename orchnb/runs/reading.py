"""Read responses as models, which are imported when they are first used."""

from __future__ import annotations

from orchnb.api import models
from orchnb.api.answers import list_of

flow_runs = list_of(lambda: models.FlowRun)
task_runs = list_of(lambda: models.TaskRun)
logs = list_of(lambda: models.Log)
