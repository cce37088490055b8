"""Answers that go missing, come from something else, or are of another form; arguments gone wrong."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest

from orchnb import (
    ObjectAlreadyExists,
    ObjectNotFound,
    PrefectHTTPStatusError,
    RetryEvent,
    UnexpectedAnswer,
    observe_retries,
)
from orchnb.http.calls import path
from orchnb.http.retry import RetryPolicy
from tests.api.conftest import opened
from tests.api.fakes import FLOW_ID, RUN_ID, LosingAnswers, Scripted, http_server

EVERY_OPERATION = {
    "hello": (),
    "api_version": (),
    "create_flow_from_name": ("etl",),
    "read_flow": (FLOW_ID,),
    "read_flow_by_name": ("etl",),
    "read_flows": (),
    "create_flow_run": (FLOW_ID,),
    "read_flow_run": (RUN_ID,),
    "read_flow_runs": (),
    "set_flow_run_state": (RUN_ID, "RUNNING"),
    "delete_flow_run": (RUN_ID,),
}
every_operation = pytest.mark.parametrize(
    ("operation", "arguments"), EVERY_OPERATION.items(), ids=EVERY_OPERATION
)


@pytest.fixture
def scripted(kind: str) -> Iterator[Callable[..., Any]]:
    """Make an open client of either kind whose server answers as a function says."""
    with ExitStack() as stack:

        def make(answer: Callable[[httpx.Request], httpx.Response]) -> tuple[Any, Scripted]:
            transport = Scripted(answer)
            options = {"transport": transport, "retry_policy": RetryPolicy(max_retries=0)}
            client = stack.enter_context(
                opened(kind, "http://orch.invalid/api", httpx_settings=options)
            )
            return client, transport

        yield make


def answering(*args: Any, **kwargs: Any) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/csrf-token"):
            return httpx.Response(404)
        return httpx.Response(*args, **kwargs)

    return answer


# Lost answers.


def test_a_lost_answer_makes_one_run(server_url: str, kind: str) -> None:
    """Prefect's own client makes two of it."""
    name = f"flow-{uuid.uuid4()}"
    transport = LosingAnswers("/api/flow_runs/", "/api/flows/")

    async def no_time_async(seconds: float) -> None:
        del seconds

    def no_time(seconds: float) -> None:
        del seconds

    options = {"transport": transport, "sleep": no_time if kind == "sync" else no_time_async}
    told: list[RetryEvent] = []
    with opened(kind, server_url, httpx_settings=options) as client, observe_retries(told.append):
        run = client.create_flow_run(name)
        assert transport.lost == 2
        assert {event.operation for event in told} == {"create_flow_run"}
        assert [found.id for found in client.read_flow_runs(flow_filter={"name": {"any_": [name]}})]
        assert client.read_flow_runs(flow_filter={"name": {"any_": [name]}})[0].id == run.id
        assert len(client.read_flow_runs(flow_filter={"name": {"any_": [name]}})) == 1


def test_every_run_has_a_key_of_its_own_unless_one_is_given(scripted: Any) -> None:
    client, transport = scripted(answering(200, json={"id": RUN_ID, "flow_id": FLOW_ID}))
    for given in (None, None, "mine", ""):
        client.create_flow_run(FLOW_ID, idempotency_key=given)
    posts = [request for request in transport.requests if request.method == "POST"]
    keys = [json.loads(request.content)["idempotency_key"] for request in posts]
    assert keys[2:] == ["mine", ""]
    assert uuid.UUID(keys[0]) != uuid.UUID(keys[1])


# Something else answers.


@every_operation
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status_code": 200, "html": "<html>Log in</html>"}, "with text/html where JSON"),
        ({"status_code": 200, "text": "[not JSON"}, "with text/plain where JSON"),
        ({"status_code": 200, "content": b"\xff\xfe{"}, "with no content type where JSON"),
        ({"status_code": 200, "content": b"[" * 100_000}, "with no content type where JSON"),
    ],
    ids=["html", "text", "bytes", "endless"],
)
def test_what_is_no_json_comes_from_no_api(
    scripted: Any, operation: str, arguments: tuple[Any, ...], answer: dict[str, Any], words: str
) -> None:
    client, _ = scripted(answering(**answer))
    with pytest.raises(UnexpectedAnswer) as caught:
        getattr(client, operation)(*arguments)
    assert "http://orch.invalid/api" in str(caught.value)
    assert words in str(caught.value)
    assert "PREFECT_API_URL ends in /api" in caught.value.hint


@pytest.mark.parametrize("status", [200, 204])
@every_operation
def test_an_empty_answer_is_an_answer_only_where_nothing_is_expected(
    scripted: Any, operation: str, arguments: tuple[Any, ...], status: int
) -> None:
    client, _ = scripted(answering(status))
    if operation == "delete_flow_run":
        assert client.delete_flow_run(RUN_ID) is None
        return
    with pytest.raises(UnexpectedAnswer, match=f"answered {status} with nothing where JSON"):
        getattr(client, operation)(*arguments)


@every_operation
def test_json_of_another_form_is_told_with_the_fields(
    scripted: Any, operation: str, arguments: tuple[Any, ...]
) -> None:
    client, _ = scripted(answering(200, json={"id": "no id", "secret": "s3cret-value"}))
    if operation in ("hello", "delete_flow_run"):
        getattr(client, operation)(*arguments)  # any JSON will do
        return
    with pytest.raises(UnexpectedAnswer, match="JSON that does not have the API's form") as caught:
        getattr(client, operation)(*arguments)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@every_operation
def test_a_login_page_that_redirects_is_an_error_with_its_address(
    scripted: Any, operation: str, arguments: tuple[Any, ...]
) -> None:
    client, _ = scripted(answering(302, headers={"location": "https://login.invalid/?token=abc"}))
    with pytest.raises(PrefectHTTPStatusError) as caught:
        getattr(client, operation)(*arguments)
    assert caught.value.status_code == 302
    assert "https://login.invalid/" in caught.value.hint
    assert "abc" not in caught.value.hint


@pytest.mark.parametrize("operation", ["hello", "read_flows", "create_flow_run", "delete_flow_run"])
def test_an_address_without_api_is_told(server_url: str, kind: str, operation: str) -> None:
    """The real server's web pages answer there, with a page, a 404 or a 405."""
    arguments = EVERY_OPERATION[operation]
    options = {"retry_policy": RetryPolicy(max_retries=0)}
    wrong = server_url.removesuffix("/api")
    with (
        opened(kind, wrong, httpx_settings=options) as client,
        pytest.raises((UnexpectedAnswer, PrefectHTTPStatusError)) as caught,
    ):
        getattr(client, operation)(*arguments)
    assert wrong in str(caught.value)
    assert caught.value.hint.endswith(f"Set PREFECT_API_URL={server_url}")


def test_a_web_pages_404_is_not_taken_for_a_missing_object(scripted: Any) -> None:
    client, _ = scripted(answering(404, html="<html><title>Lost?</title></html>"))
    with pytest.raises(PrefectHTTPStatusError) as caught:
        client.read_flow_run(RUN_ID)
    assert not isinstance(caught.value, ObjectNotFound)
    assert "The response is a web page" in caught.value.hint


def test_a_409_says_that_it_exists(scripted: Any) -> None:
    client, _ = scripted(answering(409, json={"detail": "the name is taken"}))
    with pytest.raises(ObjectAlreadyExists, match=r"exists already.*the name is taken") as caught:
        client.create_flow_from_name("etl")
    assert "choose another name" in caught.value.hint


def test_a_health_check_gives_the_error_and_does_not_raise(scripted: Any) -> None:
    client, _ = scripted(answering(500, text="broken"))
    assert isinstance(client.api_healthcheck(), PrefectHTTPStatusError)
    client, _ = scripted(answering(200, html="<html>"))
    assert isinstance(client.api_healthcheck(), UnexpectedAnswer)


# Nobody answers.


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("url", "error"),
    [
        pytest.param(
            lambda: f"http://127.0.0.1:{_closed_port()}/api", httpx.ConnectError, id="refused"
        ),
        pytest.param(lambda: "http://orch.invalid/api", httpx.ConnectError, id="no-such-host"),
    ],
)
def test_nobody_there_is_httpxs_error_at_once(
    kind: str, url: Callable[[], str], error: type[Exception]
) -> None:
    with opened(kind, url()) as client:
        for operation, arguments in EVERY_OPERATION.items():
            with pytest.raises(error):
                getattr(client, operation)(*arguments)
        assert isinstance(client.api_healthcheck(), error)


def test_what_does_not_speak_http_is_an_error_of_transport(kind: str) -> None:
    options = {"retry_policy": RetryPolicy(max_retries=0)}
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        with (
            opened(kind, url, httpx_settings=options) as client,
            pytest.raises(httpx.RemoteProtocolError),
        ):
            client.read_flows()
        thread.join()


def test_a_proxys_login_page_over_real_http(kind: str) -> None:
    def login(handler: Any) -> tuple[int, dict[str, str], bytes]:
        if handler.path == "/login":
            return 200, {"content-type": "text/html"}, b"<html>Log in</html>"
        return 302, {"location": "/login"}, b""

    with http_server(login) as url, opened(kind, f"{url}/api") as client:
        with pytest.raises(PrefectHTTPStatusError, match="302") as caught:
            client.read_flows()
        assert "log in" in caught.value.hint
        assert caught.value.hint.count("/login") == 1


# Arguments.


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"x": float("nan")}, r"parameters\.x cannot be sent as JSON: the number nan"),
        ({"x": [1, {"y": float("inf")}]}, r"parameters\.x\.1\.y cannot be .* the number inf"),
        ({"x": object()}, r"parameters\.x cannot be sent as JSON: object"),
        ({"x": {("a", "b"): 1}}, r"parameters\.x cannot be sent as JSON: dict"),
        ({"x": b"\xff"}, r"parameters\.x cannot be sent as JSON: bytes"),
        ({"x": lambda: None}, r"parameters\.x cannot be sent as JSON: function"),
    ],
    ids=["nan", "nested", "object", "keys", "bytes", "function"],
)
def test_parameters_that_json_cannot_hold_are_named(
    scripted: Any, parameters: dict[str, Any], words: str
) -> None:
    client, transport = scripted(answering(200, json={"id": RUN_ID, "flow_id": FLOW_ID}))
    with pytest.raises(ValueError, match=words):
        client.create_flow_run(FLOW_ID, parameters=parameters)
    assert transport.requests == []


def test_a_value_that_contains_itself_is_refused(scripted: Any) -> None:
    client, _ = scripted(answering(200, json={}))
    circle: dict[str, Any] = {}
    circle["again"] = circle
    with pytest.raises(ValueError, match="cannot be sent as JSON"):
        client.create_flow_run(FLOW_ID, parameters=circle)


def test_usual_values_are_sent_in_their_usual_form(scripted: Any) -> None:
    client, transport = scripted(answering(200, json={"id": RUN_ID, "flow_id": FLOW_ID}))
    client.create_flow_run(
        FLOW_ID,
        parameters={
            "path": Path("data"),
            "set": {1},
            "tuple": (1, 2),
            "mapping": MappingProxyType({"a": 1}),
            "bytes": b"text",
            "id": uuid.UUID(FLOW_ID),
        },
    )
    assert json.loads(transport.requests[-1].content)["parameters"] == {
        "path": "data",
        "set": [1],
        "tuple": [1, 2],
        "mapping": {"a": 1},
        "bytes": "text",
        "id": FLOW_ID,
    }


@pytest.mark.parametrize(
    "flow", [3, None, object(), ["etl"], ""], ids=lambda flow: type(flow).__name__
)
def test_what_names_no_flow_is_refused(scripted: Any, flow: Any) -> None:
    client, transport = scripted(answering(200, json={}))
    with pytest.raises(TypeError, match="flow should be an id, a name, or an object with a name"):
        client.create_flow_run(flow)
    assert transport.requests == []


def test_one_text_is_not_taken_for_many_tags(scripted: Any) -> None:
    client, _ = scripted(answering(200, json={}))
    with pytest.raises(TypeError, match=r"tags should be a list of strings: \['nightly'\]"):
        client.create_flow_run(FLOW_ID, tags="nightly")


@pytest.mark.parametrize(
    "operation", ["read_flow", "read_flow_by_name", "read_flow_run", "delete_flow_run"]
)
def test_an_empty_id_or_name_is_refused_before_it_is_sent(scripted: Any, operation: str) -> None:
    client, transport = scripted(answering(200, json={}))
    with pytest.raises(ValueError, match="empty string is not a valid id or name"):
        getattr(client, operation)("")
    assert transport.requests == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a/b", "/x/a%2Fb"),
        ("..", "/x/%2E%2E"),
        (".", "/x/%2E"),
        ("...", "/x/..."),
        ("?a=1#b", "/x/%3Fa%3D1%23b"),
        ("%2e%2e", "/x/%252e%252e"),
        ("ü☃", "/x/%C3%BC%E2%98%83"),
        ("\ud800", "/x/%3F"),
        ("{}", "/x/%7B%7D"),
        (uuid.UUID(FLOW_ID), f"/x/{FLOW_ID}"),
    ],
)
def test_a_value_is_one_segment_of_the_path(value: object, expected: str) -> None:
    assert path("/x/{}", value) == expected
    wire = httpx.URL("http://orch.invalid/api" + path("/x/{}", value)).raw_path
    assert wire == f"/api{expected}".encode()
