"""Variables, on both clients and both servers."""

from __future__ import annotations

from typing import Any

import pytest

from orchnb import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from orchnb.api.models import ModelList, Variable
from tests.api import both

pytestmark = both.SQLALCHEMY
client, name = both.client, both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left


def test_a_variable_comes_back_as_it_was_created(client: Any, name: str) -> None:
    created = client.create_variable(name, value={"a": [1, None, "ü"]}, tags=["x"])
    assert isinstance(created, Variable)
    found = client.read_variable_by_name(name)
    assert found == created
    assert (found.name, found.value, found.tags) == (name, {"a": [1, None, "ü"]}, ["x"])
    assert found.created.tzinfo is not None


def _by_keyword(client: Any, name: str) -> Any:
    return client.create_variable(name=name, value=3)


def _as_data(client: Any, name: str) -> Any:
    return client.create_variable({"name": name, "value": 3})


def _as_prefects_object(client: Any, name: str) -> Any:
    from prefect.client.schemas.actions import VariableCreate

    return client.create_variable(VariableCreate(name=name, value=3))


@pytest.mark.parametrize("create", [_by_keyword, _as_data, _as_prefects_object])
def test_its_fields_may_be_given_in_any_way(client: Any, name: str, create: Any) -> None:
    assert create(client, name).value == 3
    assert client.read_variable_by_name(name).value == 3


def test_none_is_a_value(client: Any, name: str) -> None:
    assert client.create_variable(name).value is None
    client.update_variable(name, value=1)
    client.update_variable(name, tags=["x"])
    assert client.read_variable_by_name(name).value == 1
    client.update_variable(name, value=None)
    assert client.read_variable_by_name(name).value is None


def test_a_variable_is_changed_by_what_is_given(client: Any, name: str) -> None:
    client.create_variable(name, value="a", tags=["x"])
    client.update_variable(name, value="b")
    assert client.read_variable_by_name(name).tags == ["x"]
    client.update_variable({"name": name, "tags": ["y"]})
    found = client.read_variable_by_name(name)
    assert (found.value, found.tags) == ("b", ["y"])
    client.update_variable(found, value="c")  # one that was read will do
    assert client.read_variable_by_name(name).value == "c"


def test_variables_are_filtered_sorted_paged_and_counted(client: Any, name: str) -> None:
    for letter in "cab":
        client.create_variable(f"{name}-{letter}", value=letter)
    mine = {"name": {"like_": name}}
    read = client.read_variables(variable_filter=mine, sort="NAME_DESC", limit=2, offset=1)
    assert isinstance(read, ModelList)
    assert read.model is Variable
    assert [variable.value for variable in read] == ["b", "a"]
    assert len(client.read_variables(2)) == 2
    assert client.count_variables(variable_filter=mine) == 3
    assert client.count_variables() >= 3


def test_a_deleted_variable_is_gone(client: Any, name: str) -> None:
    client.create_variable(name, value=1)
    assert client.delete_variable_by_name(name) is None
    assert client.read_variable_by_name(name) is None
    with pytest.raises(ObjectNotFound, match=f"There is no variable '{name}': 404"):
        client.delete_variable_by_name(name)
    with pytest.raises(ObjectNotFound, match=f"There is no variable '{name}': 404"):
        client.update_variable(name, value=2)


def test_a_name_is_taken_once(client: Any, name: str) -> None:
    client.create_variable(name, value=1)
    with pytest.raises(ObjectAlreadyExists, match=f"A variable '{name}' already exists: 409"):
        client.create_variable(name, value=2)
    assert client.read_variable_by_name(name).value == 1


def test_what_the_server_refuses_is_told(client: Any) -> None:
    with pytest.raises(PrefectHTTPStatusError, match="only contain lowercase letters") as caught:
        client.create_variable("Not A Name", value=1)
    assert [field.location for field in caught.value.fields] == ["body.name"]


def test_what_is_missing_is_told_before_anything_is_sent(client: Any, name: str) -> None:
    for operation in (client.create_variable, client.update_variable):
        with pytest.raises(TypeError, match="Missing name: give fields by keyword or in the data"):
            operation(value=1)
    with pytest.raises(ValueError, match="There is nothing to change: give one of value, tags"):
        client.update_variable(name)
    with pytest.raises(TypeError, match="should be a mapping, a model, or keywords, not int"):
        client.create_variable(3)
    with pytest.raises(TypeError, match="tags should be a list of strings"):
        client.create_variable(name, tags="x")
