"""Variables: values that flows share."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

from orchnb.api import models
from orchnb.api.answers import a, created_once, list_of
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import Filter, as_tags
from orchnb.api.operations.filters import named_words, with_words
from orchnb.api.operations.payloads import (
    UNCHANGED,
    Data,
    Unchanged,
    changes_of,
    fields_of,
    quoted,
    required,
    without_none,
)
from orchnb.errors import ObjectNotFound
from orchnb.http.calls import Call, nothing, path

if TYPE_CHECKING:
    from orchnb.api.models import Variable


_variable = a(lambda: models.Variable)
_variables = list_of(lambda: models.Variable)


def _filter(
    variable_filter: Filter | None, name_like: str | None, tags: Iterable[str] | None
) -> Filter | None:
    words = named_words(name_like=name_like, tags=tags)
    return with_words(variable_filter, "variable_filter", words)


def _missing(name: object) -> str:
    return f"variable {quoted(name)}"


@operation
def create_variable(
    variable: Data | str | None = None,
    *,
    name: str | None = None,
    value: Any = None,
    tags: Iterable[str] | None = None,
) -> Generator[Call[Any], Any, Variable]:
    """Create a variable: ``create_variable("threshold", value=0.5)``.

    Args:
        variable: the variable's name, or its fields.
        value: any JSON-serializable value.

    Raises:
        ObjectAlreadyExists: a variable with that name already exists; `update_variable` changes it.
        TypeError: no name is given.
    """
    fields = fields_of(variable, name=name, value=value, tags=as_tags(tags))
    required(fields, "name")
    create = Call(
        "POST",
        path("/variables/"),
        _variable,
        repeatable=True,  # identified by its name
        look="read_variable_by_name",
        json={"value": None, **fields},
        conflict=f"A variable {quoted(fields['name'])} already exists",
    )
    return (yield from created_once(create, read_variable_by_name(fields["name"])))


@operation
def read_variable_by_name(name: str) -> Generator[Call[Any], Any, Variable | None]:
    """Read a variable by its name; None if there is no variable with that name."""
    try:
        variable: Variable = yield from Call(
            "GET", path("/variables/name/{}", name), _variable, missing=_missing(name)
        )
    except ObjectNotFound:
        return None
    return variable


@operation
def read_variables(
    limit: int | None = None,
    *,
    variable_filter: Filter | None = None,
    sort: str | None = None,
    offset: int = 0,
    name_like: str | None = None,
    tags: Iterable[str] | None = None,
) -> Call[ModelList[Variable]]:
    """Read variables: ``read_variables(name_like="db", tags=["prod"])``, or by the API's filter object.

    ``sort`` is one of the API's sort orders (``NAME_ASC``, ``UPDATED_DESC``, ...). With ``limit=None``
    the server decides; it returns at most 200.

    Raises:
        ValueError: a keyword repeats a condition of the filter object.
    """
    return Call(
        "POST",
        path("/variables/filter"),
        _variables,
        repeatable=True,
        json=without_none(
            variables=_filter(variable_filter, name_like, tags),
            sort=sort,
            limit=limit,
            offset=offset,
        ),
    )


@operation
def count_variables(
    *,
    variable_filter: Filter | None = None,
    name_like: str | None = None,
    tags: Iterable[str] | None = None,
) -> Call[int]:
    """Return the number of variables; filter and keywords as in `read_variables`."""
    return Call(
        "POST",
        path("/variables/count"),
        a(lambda: int),
        repeatable=True,
        json=without_none(variables=_filter(variable_filter, name_like, tags)),
    )


@operation
def update_variable(
    variable: Data | str | None = None,
    *,
    name: str | None = None,
    value: Any = UNCHANGED,
    tags: Iterable[str] | Unchanged = UNCHANGED,
) -> Call[None]:
    """Update a variable's value or tags: ``update_variable("threshold", value=0.6)``.

    Args:
        variable: the variable's name, or a mapping of its name and the fields to change.

    Raises:
        ObjectNotFound: there is no variable with that name.
        TypeError: no name is given.
        ValueError: no changes are given.
    """
    fields = fields_of(variable, name=name, value=None, tags=None)
    required(fields, "name")
    found = fields.pop("name")
    return Call(
        "PATCH",
        path("/variables/name/{}", found),
        nothing,
        json=changes_of(
            fields, value=value, tags=tags if isinstance(tags, Unchanged) else as_tags(tags)
        ),
        missing=_missing(found),
    )


@operation
def delete_variable_by_name(name: str) -> Call[None]:
    """Delete a variable.

    Raises:
        ObjectNotFound: there is no variable with that name.
    """
    return Call("DELETE", path("/variables/name/{}", name), nothing, missing=_missing(name))


class VariableOperations:
    """Variables: values that flows share."""

    create_variable = create_variable
    read_variable_by_name = read_variable_by_name
    read_variables = read_variables
    count_variables = count_variables
    update_variable = update_variable
    delete_variable_by_name = delete_variable_by_name
