"""A create that fails says that it may have happened; the same call, run again, makes no second one."""

from __future__ import annotations

import json
import threading
import uuid
import warnings
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from orchnb import OutcomeUnknown, PrefectHTTPStatusError, SyncPrefectClient
from orchnb.api.operations.flow_runs import create_flow_run
from orchnb.api.operations.unanswered import LONGEST, FailedKeys
from orchnb.http.effects import drive
from orchnb.http.retry import RetryPolicy
from orchnb.notebook.views.errors import error_card
from orchnb.notebook.views.model import text
from tests.api.conftest import opened
from tests.api.fakes import FLOW_ID, RUN_ID, Scripted
from tests.api.test_sent_once import LosesTheFirstAnswer

ONCE = RetryPolicy(max_retries=0)


class Times(LosesTheFirstAnswer):
    """Answers the first time with a proxy's 504."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return super().handle_request(request)
        except httpx.ReadError:
            return httpx.Response(504, request=request)


def _run(client: Any, name: str) -> Any:
    return client.create_flow_run(name, name=name, parameters={"a": 1})


def _run_of_deployment(client: Any, name: str) -> Any:
    return client.create_flow_run_from_deployment(f"{name}/d", name=name, parameters={"a": 1})


def _bulk(client: Any, name: str) -> Any:
    runs = [{"name": name, "parameters": {"a": 1}}]
    return client.bulk_create_flow_runs_from_deployment(client.deployment_id, runs)


@pytest.mark.parametrize("transport", [LosesTheFirstAnswer, Times])
@pytest.mark.parametrize(
    ("create", "ending"),
    [(_run, "/flow_runs/"), (_run_of_deployment, "/create_flow_run"), (_bulk, "/bulk")],
)
def test_the_same_call_again_makes_no_second_run(
    server_url: str, create: Callable[[Any, str], Any], ending: str, transport: Any
) -> None:
    name = f"again-{uuid.uuid4()}"
    options = {"transport": transport(ending), "retry_policy": ONCE}
    with SyncPrefectClient(server_url, httpx_settings=options) as client:
        client.deployment_id = client.create_deployment(name, "d")  # type: ignore[attr-defined] # for _bulk
        with pytest.raises((httpx.ReadError, PrefectHTTPStatusError)) as failed:
            create(client, name)
        hint = failed.value.hint  # type: ignore[union-attr] # of ours
        assert "may have acted on it nevertheless: look with read_flow_runs." in hint
        assert "run the same call again: nothing is created twice" in hint
        assert "look with read_flow_runs" in text(error_card(failed.value))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            create(client, name)
        assert client.count_flow_runs(flow_name=name) == 1
        if create is not _bulk:
            (ours,) = [each for each in told if "there is no second one" in str(each.message)]
            assert ours.filename == __file__
        # What was answered is over: the next call is another run.
        create(client, name)
        assert client.count_flow_runs(flow_name=name) == 2


def test_both_clients_send_the_same_key_again_for_the_same_run_only(kind: str) -> None:
    name = f"again-{uuid.uuid4()}"
    failing = True

    def answer(request: httpx.Request) -> httpx.Response:
        if failing:
            raise httpx.ReadError("lost", request=request)
        return httpx.Response(201, json={"id": RUN_ID, "flow_id": FLOW_ID})

    wire = Scripted(answer)
    settings = {"transport": wire, "retry_policy": ONCE, "enable_csrf_support": False}
    with opened(kind, "http://orch.invalid/api", httpx_settings=settings) as client:
        for _ in range(2):
            with pytest.raises(httpx.ReadError):
                client.create_flow_run(FLOW_ID, name=name, parameters={"a": map(str, [1])})
        failing = False
        client.create_flow_run(FLOW_ID, name=f"other-{name}")
        client.create_flow_run(FLOW_ID, name=name, parameters={"a": map(str, [1])})
        client.create_flow_run(FLOW_ID, name=name, parameters={"a": map(str, [1])})
    bodies = [json.loads(request.content) for request in wire.requests]
    first, second, other, third, fourth = (body["idempotency_key"] for body in bodies)
    assert first == second == third
    assert len({first, other, fourth}) == 3
    assert bodies[3] == bodies[0]


def test_a_stopped_cell_keeps_its_key_too() -> None:
    name = f"stopped-{uuid.uuid4()}"
    keys = []

    def stopped(call: Any) -> Any:
        keys.append(call.json["idempotency_key"])
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            drive(iter(create_flow_run(FLOW_ID, name=name)), stopped)
    assert keys[0] == keys[1]


def test_a_key_of_the_users_is_the_users() -> None:
    call = next(iter(create_flow_run(FLOW_ID, idempotency_key="mine")))
    assert call.json["idempotency_key"] == "mine"


def test_keys_are_kept_for_an_hour_and_each_is_used_once() -> None:
    time = 0.0
    keys = FailedKeys(now=lambda: time)
    keys.keep(b"a", "1")
    keys.keep(b"a", "2")
    keys.keep(b"b", "3")
    with_threads: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: with_threads.append(keys.take(b"a"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(with_threads, key=str) == ["1", "2", None]
    time = LONGEST
    assert keys.take(b"b") is None


@pytest.mark.parametrize("failure", [504, httpx.ReadTimeout])
def test_other_creates_say_how_to_look(kind: str, failure: Any) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if isinstance(failure, int):
            return httpx.Response(failure, request=request)
        raise failure("lost", request=request)

    settings = {"transport": Scripted(answer), "retry_policy": ONCE, "enable_csrf_support": False}
    creates: list[tuple[Callable[[Any], Any], str]] = [
        (lambda client: client.create_variable("x", value=1), "look with read_variable_by_name"),
        (lambda client: client.create_work_pool("x", type="process"), "look with read_work_pool"),
        (lambda client: client.create_flow("x"), "look with read_flow_by_name"),
        (lambda client: client.create_deployment(FLOW_ID, "x"), "with read_deployment_by_name"),
        (lambda client: client.create_artifact(key="x"), "look with read_artifacts"),
        (lambda client: client.create_automation(**AUTOMATION), "with read_automations_by_name"),
    ]
    with opened(kind, "http://orch.invalid/api", httpx_settings=settings) as client:
        for create, words in creates:
            with pytest.raises((httpx.ReadTimeout, OutcomeUnknown, PrefectHTTPStatusError)) as told:
                create(client)
            assert words in told.value.hint  # type: ignore[union-attr] # of ours
        with pytest.raises((httpx.ReadTimeout, PrefectHTTPStatusError)) as told:
            client.read_flows()
        assert "look with" not in getattr(told.value, "hint", "")


AUTOMATION: dict[str, Any] = {"name": "x", "trigger": {"type": "event"}, "actions": [{"type": "a"}]}
