"""Whatever JSON an object comes as: nothing of it is lost, nothing changed, and it can be shown.

The models are found by walking their package, and what is sent to each is made from its fields, so a new
model is tested here as soon as it is there.
"""

from __future__ import annotations

import enum
import functools
import importlib
import json
import math
import pickle
import pkgutil
import types
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from orchnb import SyncPrefectClient
from orchnb.api import models
from orchnb.api.answers import list_of
from orchnb.api.models import (
    BlockDocument,
    CronSchedule,
    EnumText,
    FlowRun,
    IntervalSchedule,
    Model,
    RelatedResource,
    Resource,
    RRuleSchedule,
    Trigger,
)
from orchnb.api.models.blocks import unwrapped
from orchnb.http.response import PrefectResponse
from orchnb.notebook.views.model import html, text
from orchnb.notebook.views.objects import model_card, model_table


def _kinds(base: type[Model] = Model) -> Iterator[type[Model]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


for _module in pkgutil.walk_packages(models.__path__, f"{models.__name__}."):
    importlib.import_module(_module.name)
KINDS = sorted(
    {kind for kind in _kinds() if f"{kind.__module__}.".startswith(f"{models.__name__}.")},
    key=lambda kind: kind.__name__,
)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def test_every_model_can_be_had_from_the_package() -> None:
    exported = {getattr(models, name) for name in models.__all__}
    assert {*KINDS, Model} == {
        kind for kind in exported if isinstance(kind, type) and issubclass(kind, Model)
    }


# Fields that Prefect's documentation names; as declared ones they are sent and compared below as well.
_DOCUMENTED = {
    "Deployment": (
        "created_by updated_by infrastructure_document_id storage_document_id version_id version_info"
    ),
    "FlowRun": (
        "auto_scheduled context created_by deployment_version empirical_policy estimated_run_time "
        "estimated_start_time_delta flow_version infrastructure_document_id infrastructure_pid "
        "job_variables labels state_id work_pool_id work_queue_id"
    ),
    "State": "data state_details",
    "TaskRun": ("empirical_policy estimated_run_time estimated_start_time_delta labels state_id"),
    "WorkPool": "storage_configuration",
    "WorkQueue": "filter",
}
_REQUIRED = {
    **dict.fromkeys(("id", "flow_id"), str(UUID(int=1))),
    **dict.fromkeys(("name", "type", "task_key", "dynamic_key"), "x"),
}


@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field) for kind, fields in _DOCUMENTED.items() for field in fields.split()],
)
def test_what_is_documented_is_declared_and_may_be_missing_or_null(kind: str, field: str) -> None:
    model = getattr(models, kind)
    least = {
        name: _REQUIRED[name] for name, info in model.model_fields.items() if info.is_required()
    }
    default = model.model_fields[field].get_default(call_default_factory=True)
    for sent in (least, {**least, field: None}):
        assert getattr(model.model_validate(sent), field) == default


# What a server may send. Each strategy gives pairs: JSON, and what is to become of it.

Pair = tuple[Any, Any]
Pairs = st.SearchStrategy[Pair]


def _wire(value: Any) -> Any:
    """As it comes out of JSON: two surrogates that belong together have become a character."""
    return json.loads(json.dumps(value))


def _as_it_is(value: Any) -> Pair:
    return value, value


# JSON can hold half a surrogate pair.
_text = st.text(st.characters(), max_size=8) | st.sampled_from(
    [
        "👩‍🚀",
        "\ud83d",
        "\udc00 x",
        "</script><b>&amp;",
        "\x1b[31mred",
        "\u202egnp",
        "\0",
        "x" * 100_000,
        "😀" * 10_000,
    ]
)
_integers = (
    st.integers() | st.integers(2**63 - 2, 2**64 + 2) | st.just(-(10**300)) | st.just(10**4000)
)
_floats = st.floats(allow_nan=False, allow_infinity=False)
_keys = st.text(max_size=8) | st.sampled_from(
    ["secret_fields", "block_schema_references", "type", "👩‍🚀", "x" * 10_000]
)


def _nested(value: Any, depth: int, named: bool) -> Any:
    for _ in range(depth):
        value = {"a": value} if named else [value]
    return value


_anything = st.recursive(
    st.none() | st.booleans() | _integers | _floats | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=5,
)
_anything = (
    # Prefect's server itself cannot write what is nested deeper than 255.
    _anything | st.builds(_nested, _anything, st.sampled_from([60, 200]), st.booleans())
).map(_wire)

_zones = st.none() | st.builds(
    timezone, st.integers(-1439, 1439).map(lambda minutes: timedelta(minutes=minutes))
)


def _moment(moment: datetime, zone: timezone | None, short: bool) -> Pair:
    sent = moment.replace(tzinfo=zone).isoformat()
    given_zone = zone if zone is not None else timezone.utc
    return (
        sent.replace("+00:00", "Z") if short else sent,
        moment.replace(tzinfo=given_zone),
    )


_BY_TYPE: dict[Any, Pairs] = {
    Any: _anything.map(_as_it_is),
    str: _text.map(_wire).map(_as_it_is),
    bool: st.booleans().map(_as_it_is),
    int: _integers.map(_as_it_is),
    float: _floats.map(_as_it_is) | st.integers(-(2**70), 2**70).map(lambda n: (n, float(n))),
    UUID: st.uuids().map(lambda found: (str(found), found)),
    EnumText: _text.map(_wire).map(lambda found: (found, EnumText(found))),
    # As long as a float of seconds is exact to a microsecond.
    timedelta: st.integers(-(10**15), 10**15).map(
        lambda micros: (micros / 1e6, timedelta(microseconds=micros))
    ),
    **{
        kind: st.dictionaries(_keys.map(_wire), _anything, max_size=2).map(
            lambda labels, kind=kind: (labels, kind(labels))
        )
        for kind in (Resource, RelatedResource)
    },
    datetime: st.builds(
        _moment,
        st.datetimes() | st.sampled_from([datetime.min, datetime.max]),
        _zones,
        st.booleans(),
    ),
    type(None): st.just((None, None)),
}


def _of_type(annotation: Any) -> Pairs:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _of_type(inner[0])
    if origin is Literal:
        return st.sampled_from([(value, value) for value in inner])
    if origin in (Union, types.UnionType):
        return _of_one(inner)
    if origin is list:
        return st.lists(_of_type(inner[0]), max_size=2).map(_list)
    if origin is set:
        return st.lists(_of_type(inner[0]), max_size=2).map(_list).map(_set)
    if origin is dict:
        return st.dictionaries(_keys.map(_wire), _of_type(inner[1]), max_size=2).map(_dict)
    if _is_enum(annotation):
        return st.sampled_from([(member.value, member) for member in annotation])
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return st.deferred(lambda: _objects(annotation))
    return _BY_TYPE[annotation]


_SHOWN_BY = {IntervalSchedule: "interval", CronSchedule: "cron", RRuleSchedule: "rrule"}
"""The fields by which the kinds of schedules are recognized."""
_KINDS_OF_TRIGGERS = {"event", "metric", "compound", "sequence"}


def _of_one(inner: tuple[Any, ...]) -> Pairs:
    """One of several types; what could be read as another one of them is not among its values."""
    known = {member.value for one in inner if _is_enum(one) for member in one}

    def is_clear(pair: Pair) -> bool:
        sent, wanted = pair
        if isinstance(wanted, str) and not isinstance(wanted, enum.Enum) and wanted in known:
            return False
        return not (int in inner and type(sent) is int and type(wanted) is float)

    def shown(kind: Any) -> Pairs:
        kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if kind in _SHOWN_BY:
            return _of_type(kind).filter(lambda pair: _SHOWN_BY[kind] in pair[0])
        if kind is Trigger:
            return _of_type(kind).filter(
                lambda pair: "type" in pair[0] and pair[0]["type"] not in _KINDS_OF_TRIGGERS
            )
        return _of_type(kind)

    return st.one_of(*map(shown, inner)).filter(is_clear)


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)


def _list(pairs: list[Pair]) -> Pair:
    return [sent for sent, _ in pairs], [wanted for _, wanted in pairs]


def _set(pair: Pair) -> Pair:
    return pair[0], set(pair[1])


def _dict(pairs: dict[str, Pair]) -> Pair:
    return (
        {key: sent for key, (sent, _) in pairs.items()},
        {key: wanted for key, (_, wanted) in pairs.items()},
    )


_LEFT_OUT = object()


def _field(field: FieldInfo) -> Pairs:
    if field.is_required() or get_origin(field.annotation) is Literal:
        return _of_type(field.annotation)
    default = _data(field.get_default(call_default_factory=True))
    return st.sampled_from([(_LEFT_OUT, default), (None, default)]) | _of_type(field.annotation)


# As attributes some of these would be something else; as fields they are kept. Half a surrogate pair is
# no name that pydantic takes, and none that an API has.
_names = st.text(max_size=5) | st.sampled_from(
    ["model_dump", "copy", "json", "self", "__class__", "__dict__", "_private", "model_config", "é"]
)


@functools.cache
def _objects(kind: type[Model]) -> Pairs:
    """An object of this kind: the JSON, and its fields by name as they should be."""
    known = st.fixed_dictionaries(
        {name: _field(field) for name, field in kind.model_fields.items()}
    )
    unknown = st.dictionaries(
        _names.filter(lambda name: name not in kind.model_fields),
        _anything.map(_as_it_is),
        max_size=2,
    )
    return st.builds(lambda first, second: _object({**first, **second}), known, unknown)


def _object(pairs: dict[str, Pair]) -> Pair:
    sent, wanted = _dict(pairs)
    return {name: value for name, value in sent.items() if value is not _LEFT_OUT}, wanted


def _data(value: Any) -> Any:
    """A model, or what holds models, as plain data; what was secret as it came."""
    if isinstance(value, Model):
        assert not set(value.model_extra or {}) & set(type(value).model_fields)
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        if isinstance(value, BlockDocument):
            fields["data"] = unwrapped(fields["data"])
        return {name: _data(item) for name, item in {**fields, **(value.model_extra or {})}.items()}
    if isinstance(value, list):
        return [_data(item) for item in value]
    if type(value) is dict:
        return {name: _data(item) for name, item in value.items()}
    return value


def _same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down: 1 is not True, nor 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, datetime):
        return one == other and one.utcoffset() == other.utcoffset() is not None
    return bool(one == other)


def _answer(sent: Any) -> PrefectResponse:
    request = httpx.Request("POST", "http://orch.invalid/api/things/filter")
    return PrefectResponse(200, content=json.dumps(sent).encode(), request=request)


_MOST_HTML = 30_000
"""Three rows of seven texts, each of at most 120 characters that may be escaped, and the styles."""

_MOST_HTML_OF_LOGS = _MOST_HTML + 2 * 8_000 * len("&amp;")
"""In addition the messages of two log lines: a log shows messages whole, up to 8,000 characters."""


@every_kind
@settings(
    deadline=None,
    max_examples=15,
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],  # to explain takes longer than to find
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_an_object_is_read_whole_survives_its_dumps_and_can_be_shown(
    kind: type[Model], data: st.DataObject
) -> None:
    pairs = data.draw(st.lists(_objects(kind), min_size=1, max_size=2))
    found = list_of(lambda: kind)(_answer([sent for sent, _ in pairs]))
    for item, (_, wanted) in zip(found, pairs, strict=True):
        assert _same(_data(item), wanted)
        assert _same(_data(kind.model_validate(item.model_dump())), wanted)
        assert _same(_data(pickle.loads(pickle.dumps(item))), wanted)
        dumped = json.loads(json.dumps(item.model_dump(mode="json")))
        if kind is not BlockDocument:  # which dumps asterisks for its secrets
            assert _same(_data(kind.model_validate(dumped)), wanted)
    assert list(map(kind.model_validate, found.to_dicts())) == found
    for view in (model_table(found), *map(model_card, found)):
        assert len(html(view).encode()) < (_MOST_HTML_OF_LOGS if kind is models.Log else _MOST_HTML)
        assert text(view).encode()
    assert repr(found)


def test_halves_of_characters_are_kept_as_names_too_and_never_shown() -> None:
    """JSON can hold them; pydantic's JSON dumps take them as values only."""
    sent = {"id": str(UUID(int=1)), "flow_id": str(UUID(int=2)), "parameters": {"\ud83d": "\udc00"}}
    found = list_of(lambda: FlowRun)(_answer([sent]))
    assert found[0].parameters == {"\ud83d": "\udc00"}
    assert FlowRun.model_validate(found[0].model_dump()) == found[0]
    assert html(model_table(found)).encode()
    assert text(model_card(found[0])).encode()


@pytest.mark.parametrize("named", [5, True, "ab", {"a": 1}], ids=str)
def test_a_schema_that_nobody_understands_leaves_nothing_unhidden(named: Any) -> None:
    schema = {"id": str(UUID(int=2)), "checksum": "", "fields": {"secret_fields": named}}
    sent = {"id": str(UUID(int=1)), "data": {"a": "mine", "c": "mine"}, "block_schema": schema}
    (found,) = list_of(lambda: BlockDocument)(_answer([sent]))
    assert "mine" not in repr(found)
    assert unwrapped(found.data) == sent["data"]


# Where the server's own document has another name than the model's, perhaps with "Response" after it.
_DOCUMENTED_AS = {
    "ConcurrencyLease": "ConcurrencyLimitWithLeaseResponse",
    "Event": "ReceivedEvent",
    "FlowRunGraph": "Graph",
    "RunHistory": "HistoryResponse",
    "RunHistoryState": "HistoryResponseState",
    "TakenSlots": "MinimalConcurrencyLimitResponse",
    "TaskRun": "TaskRun",  # its TaskRunResponse is what paginate gives, which is not read here
}
# Optional in the document, as it is in what creates one.
_ALWAYS_SENT = {("Artifact", "id"), ("ArtifactCollection", "id")}


def _may_be_null(documented: dict[str, Any]) -> bool:
    return any(
        choice.get("type", None if "$ref" in choice else "null") == "null"
        for choice in documented.get("anyOf", [documented])
    )


def test_nothing_is_required_that_the_server_may_leave_out_or_send_a_null_for(
    server_url: str,
) -> None:
    with SyncPrefectClient(server_url) as client:
        schemas = client.request("GET", "/openapi.json").json()["components"]["schemas"]
    refused, compared = [], 0
    for kind in KINDS:
        name = _DOCUMENTED_AS.get(kind.__name__, f"{kind.__name__}Response")
        schema = schemas.get(name) or schemas.get(kind.__name__)
        if schema is None:
            continue  # the server is older than the model
        compared += 1
        for field, info in kind.model_fields.items():
            if not info.is_required() or (kind.__name__, field) in _ALWAYS_SENT:
                continue
            documented = schema["properties"].get(field, {})
            if field not in schema.get("required", ()) or _may_be_null(documented):
                refused.append(f"{kind.__name__}.{field}: {documented}")
    assert compared > 25
    assert not refused
