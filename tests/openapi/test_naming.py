"""The names of operations, groups and arguments."""

from __future__ import annotations

from typing import Any

import pytest

from orchnb.openapi.naming import operation_names, snake_case
from orchnb.openapi.parser import read_description
from tests.openapi.documents import document, only


@pytest.mark.parametrize(
    ("operation_id", "method", "path", "name"),
    [
        ("read_flow_runs_flow_runs_filter_post", "post", "/flow_runs/filter", "read_flow_runs"),
        ("delete_flow_flows__id__delete", "delete", "/flows/{id}", "delete_flow"),
        ("read_x__get", "get", "/", "read_x"),
        ("either_things_put", "post", "/things", "either"),  # one route of two methods
        ("things_get", "get", "/things", "things_get"),
        ("listPets", "get", "/pets", "list_pets"),
        ("UISettings", "get", "/x", "ui_settings"),
        ("pets.list/all", "get", "/x", "pets_list_all"),
        (None, "get", "/pets/{pet-id}", "get_pets_pet_id"),
        ("", "get", "/", "get"),
        ("class", "get", "/x", "class_"),
        ("__import__('os').system('id')", "get", "/x", "import_os_system_id"),
        ("3d", "get", "/x", "n3d"),
        ("größe_lesen", "get", "/x", "größe_lesen"),
        ("ﬁnd", "get", "/x", "find"),  # a ligature, which Python reads as two letters
        ("²", "get", "/x", "n2"),
        ("\ud800 ' \n", "get", "/x", "operation"),
    ],
)
def test_operations_get_the_names_that_people_know(
    operation_id: Any, method: str, path: str, name: str
) -> None:
    assert operation_names(operation_id, method, path)[0] == name


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("Block types", "block_types"),
        ("SavedSearches", "saved_searches"),
        ("V2", "v2"),
        ("--", "x"),
    ],
)
def test_groups_are_named_in_snake_case(tag: str, name: str) -> None:
    assert snake_case(tag, "x") == name


def test_names_that_meet_give_way_to_longer_ones_and_then_to_numbers() -> None:
    paths = {
        "/a": {"get": {"operationId": "read_a_get", "tags": ["t"]}},
        "/b": {"get": {"operationId": "read_b_get", "tags": ["t"]}},
        "/c": {"get": {"operationId": "same", "tags": ["t"]}},
        "/d": {"get": {"operationId": "same", "tags": ["t", "u"]}},
        "/e": {"get": {"operationId": "same", "tags": ["u"]}},
        "/f": {"get": {"operationId": "read_f_get"}},
    }
    operations = read_description(document(paths)).operations
    assert [(each.groups, each.name) for each in operations] == [
        (("t",), "read_a_get"),
        (("t",), "read_b_get"),
        (("t",), "same"),
        (("t", "u"), "same_2"),
        (("u",), "same"),
        (("f",), "read"),
    ]


def test_arguments_get_names_of_pythons_and_none_twice() -> None:
    parameters = [
        {"name": name, "in": place}
        for name, place in [
            ("id", "query"), ("page-token", "query"), ("any[]", "query"), ("class", "query"),
            ("__class__", "query"), ("X-Id", "header"), ("id", "header"), ("1st", "query"),
            ("'); import os #", "query"), ("", "query"), ("Authorization", "header"),
            ("a\r\nb", "header"),
        ]
    ]  # fmt: skip
    operation = only({"/things/{id}": {"get": {"parameters": parameters}}})
    assert [argument.name for argument in operation.arguments] == [
        "id", "id_query", "page_token", "any__", "class_", "class_query", "X_Id", "id_header", "n1st",
        "import_os", "argument",
    ]  # fmt: skip
