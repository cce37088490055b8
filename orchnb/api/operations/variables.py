"""Variables: values that flows share."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from orchnb.api import models
from orchnb.api.answers import a, created_once, list_of
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import Filter, as_tags
from orchnb.api.operations.filters import NamedWords, named_words
from orchnb.api.operations.payloads import (
    UNCHANGED,
    Data,
    Unchanged,
    changes_of,
    fields_of,
    named,
    quoted,
    required,
)
from orchnb.api.operations.queries import filters_of
from orchnb.api.operations.verbs import change, count, delete, get, search
from orchnb.errors import ObjectNotFound
from orchnb.http.calls import Call, path

if TYPE_CHECKING:
    from orchnb.api.models import Variable


_variable = a(lambda: models.Variable)
_variables = list_of(lambda: models.Variable)


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
        variable: Variable = yield from get(
            path("/variables/name/{}", name), _variable, named("variable", name)
        )
    except ObjectNotFound:
        return None
    return variable


class VariableQuery(NamedWords, total=False):
    """Keywords of a query for variables."""

    variable_filter: Filter | None


def _variable_filters(query: VariableQuery) -> dict[str, Any]:
    return filters_of(query, variable_filter=named_words(query))


@operation
def read_variables(
    limit: int | None = None,
    *,
    sort: str | None = None,
    offset: int = 0,
    **query: Unpack[VariableQuery],
) -> Call[ModelList[Variable]]:
    """Read variables: ``read_variables(name_like="db", tags=["prod"])``, or by the API's filter object.

    ``sort`` is one of the API's sort orders (``NAME_ASC``, ``UPDATED_DESC``, ...). With ``limit=None``
    the server decides; it returns at most 200.

    Raises:
        ValueError: a keyword repeats a condition of the filter object.
    """
    return search(
        path("/variables/filter"),
        _variables,
        **_variable_filters(query),
        sort=sort,
        limit=limit,
        offset=offset,
    )


@operation
def count_variables(**query: Unpack[VariableQuery]) -> Call[int]:
    """Return the number of variables; filter and keywords as in `read_variables`."""
    return count(path("/variables/count"), **_variable_filters(query))


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
    return change(
        path("/variables/name/{}", found),
        changes_of(
            fields, value=value, tags=tags if isinstance(tags, Unchanged) else as_tags(tags)
        ),
        named("variable", found),
    )


@operation
def delete_variable_by_name(name: str) -> Call[None]:
    """Delete a variable.

    Raises:
        ObjectNotFound: there is no variable with that name.
    """
    return delete(path("/variables/name/{}", name), named("variable", name))


class VariableOperations:
    """Variables: values that flows share."""

    create_variable = create_variable
    read_variable_by_name = read_variable_by_name
    read_variables = read_variables
    count_variables = count_variables
    update_variable = update_variable
    delete_variable_by_name = delete_variable_by_name
