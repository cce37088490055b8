"""Whether a deployment takes some parameters, as its server will see it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

from orchnb.api.calls import quoted
from orchnb.api.operations.near_names import did_you_mean, near_names
from orchnb.errors import FieldProblem, InvalidParameters
from orchnb.http.response import one_line

if TYPE_CHECKING:
    from orchnb.api.models import Deployment


_MOST_ROWS = 100
_MOST_IN_MESSAGE = 10

_SHOULD = {
    "minimum": "should be at least {}",
    "maximum": "should be at most {}",
    "exclusiveMinimum": "should be more than {}",
    "exclusiveMaximum": "should be less than {}",
    "multipleOf": "should be a multiple of {}",
    "minLength": "should have at least {} characters",
    "maxLength": "should have at most {} characters",
    "minItems": "should have at least {} items",
    "maxItems": "should have at most {} items",
    "pattern": "should match the pattern {}",
    "const": "should be {}",
    "enum": "should be one of {}",
}
_KINDS: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}


def check_parameters(deployment: Deployment, name: str, parameters: Mapping[str, Any]) -> None:
    """Check parameters against the deployment's schema.

    What the server would refuse is refused here, all of it in one error. It also refuses a name that
    the flow does not have, which the server lets through to a run that then fails. What only the
    server can judge, such as a value that it fills in, is left to it.

    Args:
        name: what to call the deployment.
        parameters: as JSON has them.

    Raises:
        InvalidParameters: the deployment does not take them.
    """
    schema = deployment.parameter_openapi_schema
    if not schema:
        return
    rows = [*_unknown(schema, parameters), *_unfit(schema, {**deployment.parameters, **parameters})]
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


def _unknown(schema: Mapping[str, Any], parameters: Mapping[str, Any]) -> Iterator[FieldProblem]:
    known = schema.get("properties")
    open_ended = schema.get("additionalProperties") or schema.get("patternProperties")
    # A server says the same of a flow without parameters and of one of which it knows none.
    if not isinstance(known, Mapping) or not known or open_ended:
        return
    for name in islice((name for name in parameters if name not in known), _MOST_ROWS):
        question = did_you_mean(near_names(name, known))
        words = f"is no parameter of the flow. {question}".strip()
        yield FieldProblem(_place([name]), words.removesuffix("."), "unknown")


def _unfit(schema: dict[str, Any], parameters: Mapping[str, Any]) -> list[FieldProblem]:
    """What the schema says of the parameters; nothing if the schema cannot be used."""
    # Loaded when first used: it takes a while, and ships no types.
    jsonschema: Any = import_module("jsonschema")
    referencing: Any = import_module("referencing")
    validator = jsonschema.Draft202012Validator
    checked = {name: value for name, value in parameters.items() if not _is_the_servers(value)}
    left = set(parameters) - set(checked)
    try:
        validator.check_schema(schema)
        # A registry of its own, as the default one fetches whatever address a schema names.
        reader = validator(_as_the_server_reads(schema), registry=referencing.Registry())
        rows = (row for error in reader.iter_errors(checked) for row in _rows(error))
        wanted = (row for row in rows if row.location not in {_place([name]) for name in left})
        return list(dict.fromkeys(islice(wanted, _MOST_ROWS)))
    except Exception:  # noqa: BLE001 - what `$ref` leads to is unchecked, and breaks in any way
        return []


def _is_the_servers(value: object) -> bool:
    """Whether the server replaces something in the value: a variable, a template, a block."""
    if isinstance(value, dict):
        return not value.keys().isdisjoint(("__prefect_kind", "$ref")) or any(
            _is_the_servers(item) for item in value.values()
        )
    return isinstance(value, list) and any(_is_the_servers(item) for item in value)


def _as_the_server_reads(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, in which what may be left out may be null too, unless it has a default.

    So Prefect's server reads it, as the schemas of pydantic 1 do not say it.
    """
    read: dict[str, Any] = _nullable(schema)
    definitions = schema.get("definitions")
    if isinstance(definitions, dict):
        read["definitions"] = {name: _nullable(each) for name, each in definitions.items()}
    return read


def _nullable(schema: Any) -> Any:
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        return schema
    required = schema.get("required", ())
    properties = {}
    for name, each in schema["properties"].items():
        each = _nullable(each)
        if (
            isinstance(each, dict)
            and "type" in each
            and "default" not in each
            and name not in required
        ):
            each = {"anyOf": [each, {"type": "null"}]}
        properties[name] = each
    return {**schema, "properties": properties}


def _rows(error: Any) -> Iterator[FieldProblem]:
    place = list(error.absolute_path)
    if error.validator == "required":
        for name in error.validator_value:
            if name not in error.instance:
                yield FieldProblem(_place([*place, name]), "is missing", "required")
    elif error.validator in ("anyOf", "oneOf") and error.context:
        yield from _rows_of_alternatives(error, place)
    else:
        yield FieldProblem(_place(place), _words(error), str(error.validator))


def _rows_of_alternatives(error: Any, place: list[Any]) -> Iterator[FieldProblem]:
    """What is wrong with a value that fits none of several schemas."""
    others = [
        each for each in error.context if not (each.validator == "type" and not each.relative_path)
    ]
    if not others:  # it is of none of the types
        types = [kind for each in error.context for kind in _listed(each.validator_value)]
        yield FieldProblem(_place(place), _wrong_type(types, error.instance), "type")
        return
    # The alternative whose type it has is the one that was meant.
    alternatives = {each.schema_path[0] for each in others}
    if len(alternatives) == 1:
        for each in others:
            yield from _rows(each)
    else:
        words = f"fits none of the {len(error.validator_value)} forms that it may have"
        yield FieldProblem(_place(place), words, str(error.validator))


def _words(error: Any) -> str:
    value = error.validator_value
    if error.validator == "type":
        return _wrong_type(_listed(value), error.instance)
    if error.validator in _SHOULD:
        shown = _listed(value) if error.validator == "enum" else [value]
        return _SHOULD[error.validator].format(_many(shown, json.dumps))
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        return f"has fields beside {_many(known, quoted)}" if known else "should have no fields"
    return f"does not meet the schema's {quoted(error.validator)}"


def _wrong_type(types: Iterable[Any], value: object) -> str:
    kind = _KINDS.get(type(value), "something else")
    return f"should be {_many(dict.fromkeys(types), str)}, but is {kind}"


def _many(values: Iterable[Any], shown: Callable[[Any], str]) -> str:
    return one_line(" or ".join(shown(value) for value in values), 200)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _place(path: Iterable[object]) -> str:
    return one_line(".".join(["parameters", *map(str, path)]), 200)


def _hint(schema: Mapping[str, Any]) -> str:
    known = schema.get("properties")
    if not isinstance(known, Mapping) or not known:
        return ""
    required = schema.get("required")
    required = required if isinstance(required, list) else []
    names = [f"{name} (required)" if name in required else str(name) for name in known]
    shown = one_line(", ".join(names), 400)
    return f"The flow's parameters are {shown}."
