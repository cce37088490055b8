"""Check a run's parameters: whether their names are known, and whether required ones are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from orchnb.errors import FieldProblem, InvalidParameters
from orchnb.text import did_you_mean, near_names, one_line

if TYPE_CHECKING:
    from orchnb.api.models import Deployment


_MOST_ROWS = 100
_MOST_IN_MESSAGE = 10
_MOST_COMPARED = 1000
"""How many of a flow's parameters are searched for a similar name. The schema comes from a server."""


def check_parameters(deployment: Deployment, name: str, parameters: Mapping[str, Any]) -> None:
    """Check the names of parameters against the deployment's schema, all of them in one error.

    The server accepts a name that the flow does not have, and the run fails later. Values are not
    checked: the server does that before it creates a run, and validating against a schema can take any
    amount of work (JSON Schema: ``pattern``, ``anyOf``, ``uniqueItems``).

    Args:
        name: the deployment's name in messages.
        parameters: in JSON's types.

    Raises:
        InvalidParameters: a parameter is unknown, or a required one is missing.
    """
    schema = deployment.parameter_openapi_schema
    if not schema:
        return
    given = {**deployment.parameters, **parameters}
    rows = [
        *islice(_unknown_parameters(schema, parameters), _MOST_ROWS),
        *_missing_parameters(schema, given),
    ]
    if not rows:
        return
    words = [f"{row.location} {row.message}" for row in rows[:_MOST_IN_MESSAGE]]
    if len(rows) > len(words):
        words.append(f"and {len(rows) - len(words)} more")
    raise InvalidParameters(
        f"{name} does not take these parameters: {'; '.join(words)}",
        fields=rows,
        hint=_hint(schema),
    )


def _unknown_parameters(
    schema: Mapping[str, Any], parameters: Mapping[str, Any]
) -> Iterator[FieldProblem]:
    known = schema.get("properties")
    open_ended = schema.get("additionalProperties") or schema.get("patternProperties")
    # A server describes a flow without parameters and one with unknown parameters in the same way.
    if not isinstance(known, Mapping) or not known or open_ended:
        return
    compared = list(islice(known, _MOST_COMPARED))
    for name in parameters:
        if name not in known:
            words = f"is not a parameter of the flow. {did_you_mean(near_names(name, compared))}"
            yield FieldProblem(_place(name), words.strip().removesuffix("."), "unknown")


def _missing_parameters(
    schema: Mapping[str, Any], given: Mapping[str, Any]
) -> Iterator[FieldProblem]:
    missing = (name for name in _required(schema) if name not in given)
    for name in islice(missing, _MOST_ROWS):
        yield FieldProblem(_place(name), "is missing", "required")


def _required(schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required")
    return (
        [each for each in required if isinstance(each, str)] if isinstance(required, list) else []
    )


def _place(name: str) -> str:
    return one_line(f"parameters.{name}", 200)


def _hint(schema: Mapping[str, Any]) -> str:
    known = schema.get("properties")
    if not isinstance(known, Mapping) or not known:
        return ""
    required = set(_required(schema))
    names = [f"{name} (required)" if name in required else str(name) for name in known]
    return f"The flow's parameters are {one_line(', '.join(names[:_MOST_ROWS]), 400)}."
