"""Values of all kinds, through every operation that takes the user's own values, on the real server: what
was sent is read back, or is refused before anything is sent, with its place."""

from __future__ import annotations

import dataclasses
import enum
import io
import itertools
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy
import pandas
import pytest
from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from orchnb import SyncPrefectClient
from orchnb.api.operations.coercion import as_dict
from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.http.json_values import plain_json
from tests.api import both
from tests.api.conftest import opened
from tests.api.test_sent_once import LosesTheFirstAnswer, options

pytestmark = both.SQLALCHEMY
server_here = both.server_here
nothing_is_left = both.nothing_is_left


@pytest.fixture
def client(kind: str, in_process_app: EphemeralApp) -> Iterator[Any]:
    with opened(kind, in_process_app) as client:
        yield client


@pytest.fixture
def name() -> str:
    return f"name_{uuid.uuid4().hex}"


class Color(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Point:
    x: int
    path: PurePosixPath


class Model(BaseModel):
    day: date
    parts: tuple[int, ...] = (1,)


class WithSecret(BaseModel):
    inner: dict[str, SecretStr]


ID = uuid.UUID(int=7)


def sent() -> dict[str, Any]:
    """The values, new ones each time: iterators end."""
    return {
        "generator": (n for n in range(3)),
        "map": map(str, [1, 2]),
        "zip": zip([1], ["a"], strict=True),
        "filter": filter(None, [0, 1]),
        "nested iterators": [map(str, [1]), {"a": iter([2])}],
        "keys": {"a": 1}.keys(),
        "values": {"a": 1}.values(),
        "items": {"a": 1}.items(),
        "set": {1},
        "frozenset": frozenset({"a"}),
        "range": range(2),
        "tuple": (1, (2,)),
        "deque": deque([1]),
        "mapping": MappingProxyType({"a": OrderedDict(b=1)}),
        "keys of other types": {1: "int", ID: "id", Color.RED: "enum"},
        "array": numpy.array([[1, 2], [3, 4]]),
        "array of floats": numpy.array([0.5]),
        "array of texts": numpy.array(["a"]),
        "array of times": numpy.array(["2026-01-02T03:04"], "datetime64[ns]"),
        "number of numpy": [numpy.int64(1), numpy.float32(0.5), numpy.bool_(True), numpy.array(3)],
        "series": pandas.Series([1, 2]),
        "series of texts": pandas.Series(["a", "b"]),
        "series of times": pandas.Series(pandas.to_datetime(["2026-01-02"])),
        "index": pandas.Index(["a"]),
        "timestamp": pandas.Timestamp("2026-01-02T03:04:05Z"),
        "datetime": datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=1))),
        "datetime without a zone": datetime(2026, 1, 2, 3),
        "date": date(2026, 1, 2),
        "time": time(3, 4),
        "timedelta": timedelta(hours=1),
        "decimal": Decimal("1.50"),
        "uuid": ID,
        "path": PurePosixPath("data/x"),
        "enums": [Color.RED, Number.ONE],
        "dataclass": Point(1, PurePosixPath("p")),
        "model": Model(day=date(2026, 1, 2)),
        "bytes": b"text",
    }


RECEIVED = {
    "generator": [0, 1, 2],
    "map": ["1", "2"],
    "zip": [[1, "a"]],
    "filter": [1],
    "nested iterators": [["1"], {"a": [2]}],
    "keys": ["a"],
    "values": [1],
    "items": [["a", 1]],
    "set": [1],
    "frozenset": ["a"],
    "range": [0, 1],
    "tuple": [1, [2]],
    "deque": [1],
    "mapping": {"a": {"b": 1}},
    "keys of other types": {"1": "int", str(ID): "id", "red": "enum"},
    "array": [[1, 2], [3, 4]],
    "array of floats": [0.5],
    "array of texts": ["a"],
    "array of times": ["2026-01-02T03:04:00"],
    "number of numpy": [1, 0.5, True, 3],
    "series": [1, 2],
    "series of texts": ["a", "b"],
    "series of times": ["2026-01-02T00:00:00"],
    "index": ["a"],
    "timestamp": "2026-01-02T03:04:05Z",
    "datetime": "2026-01-02T03:00:00+01:00",
    "datetime without a zone": "2026-01-02T03:00:00",
    "date": "2026-01-02",
    "time": "03:04:00",
    "timedelta": "PT1H",
    "decimal": "1.50",
    "uuid": str(ID),
    "path": "data/x",
    "enums": ["red", 1],
    "dataclass": {"x": 1, "path": "p"},
    "model": {"day": "2026-01-02", "parts": [1]},
    "bytes": "text",
}


async def _asynchronous() -> Any:
    yield 1


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "NaN": (lambda: [1, float("nan")], r"x\.1 cannot be sent as JSON: the number nan"),
    "infinity": (lambda: numpy.float64("inf"), r"x cannot be sent as JSON: the number inf"),
    "NaN in an array": (lambda: numpy.array([1, numpy.nan]), r"x\.1 .* the number nan"),
    "NaN in a series": (lambda: pandas.Series(["a", None]), r"x\.1 .* the number nan"),
    "decimal NaN": (lambda: Decimal("NaN"), r"x .* the number NaN"),
    "NaT": (lambda: [pandas.NaT], r"x\.0 .* NaT"),
    "NaT of numpy": (lambda: numpy.datetime64("NaT"), r"x .* NaT"),
    "NA": (lambda: pandas.Series([1, None], dtype="Int64"), r"x\.1 .* NAType"),
    "table": (lambda: pandas.DataFrame({"a": [1]}), r"x .* DataFrame; .*to_dict\('records'\)"),
    "binary": (lambda: {"y": b"\xff"}, r"x\.y .* bytes; .* base64"),
    "file": (lambda: io.StringIO("a"), r"x .* StringIO; .*file\.read\(\)"),
    "asynchronous": (_asynchronous, r"x .* async_generator; .*async for"),
    "function": (lambda: len, r"x .* builtin_function_or_method"),
    "class": (lambda: Color, r"x .* EnumType|x .* EnumMeta"),
    "object": (object, r"x .* object"),
    "key": (lambda: {(1, 2): 3}, r"x .* dict; .* tuple has no usual one"),
    "key twice": (lambda: {1: "a", "1": "b"}, r"x .* dict; two of its keys are '1'"),
}
SECRETS: dict[str, tuple[Callable[[], Any], str]] = {
    "text": (lambda: SecretStr("s3cret"), r"x .* a wrapped secret \(SecretStr\)"),
    "bytes": (lambda: {"y": SecretBytes(b"s3cret")}, r"x\.y .* \(SecretBytes\)"),
    "any": (lambda: [Secret({"a": 1})], r"x\.0 .* \(Secret.*\)"),
    "in a model": (lambda: WithSecret(inner={"y": SecretStr("s3cret")}), r"x\.inner\.y .* secret"),
    "in an iterator": (lambda: map(SecretStr, ["s3cret"]), r"x\.0 .* a wrapped secret"),
}


def _run(client: Any, values: Any, name: str) -> Any:
    run = client.create_flow_run(name, parameters=values)
    return client.read_flow_run(run.id).parameters


def _context(client: Any, values: Any, name: str) -> Any:
    run = client.create_flow_run(name, context=values)
    return client.read_flow_run(run.id).context


def _job_variables(client: Any, values: Any, name: str) -> Any:
    run = client.create_flow_run(name, job_variables=values)
    return client.read_flow_run(run.id).job_variables


def _changed_run(client: Any, values: Any, name: str) -> Any:
    run = client.create_flow_run(name)
    client.update_flow_run(run.id, parameters=values)
    return client.read_flow_run(run.id).parameters


def _deployment(client: Any, values: Any, name: str) -> Any:
    deployment_id = client.create_deployment(name, "d", parameters=values)
    return client.read_deployment(deployment_id).parameters


def _changed_deployment(client: Any, values: Any, name: str) -> Any:
    deployment_id = client.create_deployment(name, "d")
    client.update_deployment(deployment_id, parameters=values)
    return client.read_deployment(deployment_id).parameters


def _schedule(client: Any, values: Any, name: str) -> Any:
    deployment_id = client.create_deployment(name, "d")
    schedules = [{"cron": "0 6 * * *", "parameters": values, "active": False}]
    client.create_deployment_schedules(deployment_id, schedules)
    return client.read_deployment_schedules(deployment_id)[0].parameters


def _run_of_deployment(client: Any, values: Any, name: str) -> Any:
    deployment_id = client.create_deployment(name, "d")
    run = client.create_flow_run_from_deployment(deployment_id, parameters=values)
    return client.read_flow_run(run.id).parameters


def _runs_of_deployment(client: Any, values: Any, name: str) -> Any:
    deployment_id = client.create_deployment(name, "d")
    runs = iter([{"parameters": values}])
    (result,) = client.bulk_create_flow_runs_from_deployment(deployment_id, runs)
    return client.read_flow_run(result.flow_run_id).parameters


def _variable(client: Any, values: Any, name: str) -> Any:
    client.create_variable(name, value=values)
    return client.read_variable_by_name(name).value


def _changed_variable(client: Any, values: Any, name: str) -> Any:
    client.create_variable(name, value=1)
    client.update_variable(name, value=values)
    return client.read_variable_by_name(name).value


def _requested_variable(client: Any, values: Any, name: str) -> Any:
    client.request("POST", "/variables/", json={"name": name, "value": values})
    return client.read_variable_by_name(name).value


def _artifact(client: Any, values: Any, name: str) -> Any:
    made = client.create_artifact(key=name.replace("_", "-"), type="table", data=values)
    return client.read_artifact(made.id).data


def _changed_artifact(client: Any, values: Any, name: str) -> Any:
    made = client.create_artifact(key=name.replace("_", "-"), type="table", data=[])
    client.update_artifact(made.id, data=values)
    return client.read_artifact(made.id).data


def _action(client: Any, values: Any, name: str) -> Any:
    deployment_id = client.create_deployment(name, "d")
    automation_id = client.create_automation(
        name,
        trigger={"type": "event", "posture": "Reactive", "threshold": 1, "within": 0},
        actions=iter(
            [
                {
                    "type": "run-deployment",
                    "source": "selected",
                    "deployment_id": deployment_id,
                    "parameters": values,
                }
            ]
        ),
    )
    (action,) = client.read_automation(automation_id).model_dump()["actions"]
    return action["parameters"]


WAYS = {
    way.__name__.strip("_").replace("_", " "): way
    for way in (
        _run,
        _context,
        _job_variables,
        _changed_run,
        _deployment,
        _changed_deployment,
        _schedule,
        _run_of_deployment,
        _runs_of_deployment,
        _variable,
        _changed_variable,
        _requested_variable,
        _artifact,
        _changed_artifact,
        _action,
    )
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@every_way
def test_values_arrive(client: Any, name: str, way: Callable[..., Any]) -> None:
    assert way(client, sent(), name) == RECEIVED


@every_way
@pytest.mark.parametrize("value", ["NaN", "in a model"])
def test_what_cannot_be_sent_is_refused_with_its_place(
    client: Any, name: str, way: Callable[..., Any], value: str
) -> None:
    make, words = {**REFUSED, **SECRETS}[value]
    with pytest.raises(ValueError, match=words) as caught:
        way(client, {"x": make()}, name)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"), {**REFUSED, **SECRETS}.values(), ids=[*REFUSED, *SECRETS]
)
def test_the_refusal_names_the_place(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=rf"p\.({words})") as caught:
        plain_json({"x": make()}, place="p")
    assert "s3cret" not in str(caught.value)


def test_the_values_of_a_block_arrive_and_its_secrets_too(client: Any, name: str) -> None:
    slug = name.replace("_", "-")
    block_type = client.create_block_type(name=name, slug=slug)
    schema = client.create_block_schema(
        fields={"type": "object", "title": name}, block_type_id=block_type.id
    )
    data = {**sent(), "secret": SecretStr("a"), "secrets": map(SecretBytes, [b"b"])}
    made = client.create_block_document(
        name=slug, data=data, block_type_id=block_type.id, block_schema_id=schema.id
    )
    expected = {**RECEIVED, "secret": "a", "secrets": ["b"]}
    found = client.request("GET", f"/block_documents/{made.id}?include_secrets=true").json()
    assert found["data"] == expected
    client.update_block_document(
        made.id, data={"more": map(str, [1]), "model": Model(day=date.max)}
    )
    found = client.request("GET", f"/block_documents/{made.id}?include_secrets=true").json()
    assert found["data"] == {
        **expected,
        "more": ["1"],
        "model": {"day": "9999-12-31", "parts": [1]},
    }
    make, words = REFUSED["NaN"]
    with pytest.raises(ValueError, match=words):
        client.update_block_document(made.id, data={"x": make()})


def test_tags_and_ids_can_be_any_iterable(client: Any, name: str) -> None:
    for tags in (
        ("a", "b"),
        map(str, ["a", "b"]),
        {"a": 1, "b": 2}.keys(),
        pandas.Index(["a", "b"]),
    ):
        run = client.create_flow_run(name, tags=tags)
        assert run.tags == ["a", "b"]
    assert client.count_flow_runs(flow_name=name, tags=map(str, "ab")) == 4
    ids = {"id": {"any_": (each for each in [run.id])}}
    assert client.count_flow_runs(flow_run_filter=ids) == 1
    for wrong in ("ab", {"a": 1}, pandas.DataFrame({"a": [1]}), 5):
        with pytest.raises(TypeError, match="tags should be a list"):
            client.create_flow_run(name, tags=wrong)


@pytest.mark.parametrize("wrong", ["abc", 5, [1, 2], b"a"], ids=repr)
def test_parameters_should_be_a_mapping(wrong: Any) -> None:
    with pytest.raises(TypeError, match="parameters should be a mapping of names to values, not"):
        as_dict(wrong, "parameters")


def test_parameters_can_be_pairs_a_model_or_a_dataclass(server_url: str, name: str) -> None:
    with SyncPrefectClient(server_url) as client:
        for given, expected in (
            (zip(["a"], [1], strict=True), {"a": 1}),
            (Model(day=date(2026, 1, 2)), {"day": "2026-01-02", "parts": [1]}),
            (Point(1, PurePosixPath("p")), {"x": 1, "path": "p"}),
        ):
            assert client.create_flow_run(name, parameters=given).parameters == expected  # type: ignore[arg-type] # more than is promised


def test_an_iterator_is_sent_whole_again_when_the_answer_was_lost(
    server_url: str, name: str
) -> None:
    transport = LosesTheFirstAnswer("/variables/")
    with SyncPrefectClient(server_url, **options("sync", transport)) as client:
        made = client.create_variable(name, value=map(str, range(3)))
        assert transport.sent == 2
        assert made.value == ["0", "1", "2"]
        found = client.read_variable_by_name(name)
        assert found is not None
        assert found.value == ["0", "1", "2"]


def test_an_iterator_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchnb.http.json_values._MOST_ITEMS", 1000)
    with pytest.raises(ValueError, match=r"p\.x cannot .* count; it has more than 1,000 items"):
        plain_json({"x": itertools.count()}, place="p")


def test_an_error_of_the_users_own_iterator_is_the_users() -> None:
    with pytest.raises(ZeroDivisionError):
        plain_json({"x": (1 / n for n in [1, 0])})
