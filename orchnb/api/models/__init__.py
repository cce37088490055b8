"""What comes over the wire, by subject; all of it can be had from here."""

from orchnb.api.models.base import Model, ModelList
from orchnb.api.models.runs import Flow, FlowRun, OrchestrationResult, State, StateType

__all__ = ["Flow", "FlowRun", "Model", "ModelList", "OrchestrationResult", "State", "StateType"]
