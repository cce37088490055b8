"""Records of hosted code go to the ring and nowhere else, whatever they hold."""

from __future__ import annotations

import contextvars
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from orchnb.errors import ServerStartFailed
from orchnb.hosting.host import HostedApp, host_log
from orchnb.hosting.logs import HostedRecords, LogRing, secret_mask
from tests import process_wide

HOSTED: contextvars.ContextVar[bool] = contextvars.ContextVar("hosted", default=False)


class StderrHandler(logging.Handler):
    """Writes to whatever stderr is at the time, as ipykernel's cells have it."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(record.getMessage() + "\n")


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger whose own handler writes everything to stderr, as servers bring them."""
    logger = logging.getLogger("tests.a_server")
    handler = StderrHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.removeHandler(handler)


@pytest.fixture
def ring(logger: logging.Logger) -> Iterator[LogRing]:
    """The ring, while records of hosted code are diverted; the logger is there before."""
    del logger
    ring = LogRing()
    with HostedRecords(ring, HOSTED.get).diverted():
        yield ring


def in_hosted_code(function: object, *args: object) -> None:
    context = contextvars.copy_context()
    context.run(HOSTED.set, True)
    context.run(function, *args)  # type: ignore[arg-type]


def test_only_records_of_hosted_code_are_diverted(
    ring: LogRing, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    in_hosted_code(logger.error, "from the server")
    logger.error("from the user")
    assert capsys.readouterr().err == "from the user\n"
    (line,) = ring.lines(10)
    assert line.endswith("ERROR tests.a_server: from the server")


def test_a_handler_that_is_set_up_later_gets_nothing_either(
    ring: LogRing, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.addHandler(late := StderrHandler())
    in_hosted_code(logger.critical, "boom")
    logger.removeHandler(late)
    assert capsys.readouterr().err == ""
    assert len(ring.lines(10)) == 1


def test_a_logger_that_is_created_later_is_diverted_by_the_handlers_and_then_itself(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its first record comes to two handlers, and is kept once."""
    other = StderrHandler()
    logger.addHandler(other)
    ring = LogRing()
    records = HostedRecords(ring, HOSTED.get)
    with records.diverted():
        late = logging.getLogger(f"tests.a_server.{uuid4().hex}")
        in_hosted_code(late.error, "the first")
        assert late.filters
        in_hosted_code(late.debug, "the second")
        bare = logging.getLogger(f"tests_{uuid4().hex}")
        bare.propagate = False
        in_hosted_code(bare.error, "to the handler of last resort")
    logger.removeHandler(other)
    assert capsys.readouterr().err == ""
    kept = [line.split(": ", 1)[1] for line in ring.lines(10)]
    assert kept == ["the first", "the second", "to the handler of last resort"]


def test_a_new_logger_with_a_new_handler_is_diverted_from_the_next_look_on(
    ring: LogRing, capsys: pytest.CaptureFixture[str]
) -> None:
    records = HostedRecords(ring, HOSTED.get)
    with records.diverted():
        late = logging.getLogger(f"tests.{uuid4().hex}")
        late.addHandler(StderrHandler())
        records.look_if_more()
        in_hosted_code(late.error, "boom")
    assert capsys.readouterr().err == ""
    assert len(ring.lines(10)) == 1


def test_what_basic_config_does_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does nothing if the root logger has a handler."""
    monkeypatch.setattr(logging.root, "handlers", [])
    with HostedRecords(LogRing(), HOSTED.get).diverted():
        assert logging.root.handlers == []


def test_without_any_handler_nothing_goes_to_the_handler_of_last_resort(
    ring: LogRing, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = logging.getLogger("tests.bare")
    monkeypatch.setattr(bare, "propagate", False)
    in_hosted_code(bare.error, "boom")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("sqlite+aiosqlite:///db", "sqlite+aiosqlite:///db"),
        ("postgres://me:s3cret@db/prefect", "postgres://***@db/prefect"),
        ("at http://s3cret@h, http://a:s3cret@b", "at http://***@h, http://***@b"),
        ("postgres://me:s3cret@s3cret@db/x", "postgres://***@db/x"),
        ("write to me@example.org about http://db/x", "write to me@example.org about http://db/x"),
    ],
)
def test_credentials_in_urls_are_masked(ring: LogRing, text: str, kept: str) -> None:
    in_hosted_code(logging.getLogger("tests").error, "Using %s", text)
    (line,) = ring.lines(1)
    assert line.endswith(f": Using {kept}")


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("%d items", ("many",)),
        ("%s and %s", ("one",)),
        ("%s", (Unprintable(),)),
        (Unprintable(), ()),
    ],
    ids=["wrong type", "too few", "argument without words", "message without words"],
)
def test_what_cannot_be_formatted_is_kept_as_it_can_be_and_hurts_nobody(
    ring: LogRing,
    logger: logging.Logger,
    message: object,
    args: tuple[object, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    in_hosted_code(logger.error, message, *args)
    assert capsys.readouterr().err == ""
    (line,) = ring.lines(1)
    assert "ERROR tests.a_server: " in line
    assert "not formatted" in line


def test_the_ring_is_bounded_and_the_last_lines_stay() -> None:
    ring = LogRing(size=3)
    with HostedRecords(ring, lambda: True).diverted():
        for number in range(10):
            logging.getLogger("tests").warning("line %d", number)
    assert [line[-6:] for line in ring.lines(10)] == ["line 7", "line 8", "line 9"]
    assert [line[-6:] for line in ring.lines(2)] == ["line 8", "line 9"]
    assert ring.lines(0) == ()


def test_lines_can_be_asked_from_a_level_on(ring: LogRing, logger: logging.Logger) -> None:
    in_hosted_code(logger.info, "all is well")
    in_hosted_code(logger.error, "nothing is well")
    assert len(ring.lines(10, logging.ERROR)) == 1
    assert len(ring.lines(10)) == 2


def test_a_traceback_is_kept_with_its_record(ring: LogRing, logger: logging.Logger) -> None:
    in_hosted_code(lambda: logger.error("failed", exc_info=ValueError("the reason")))
    (line,) = ring.lines(1)
    assert line.endswith("ValueError: the reason")


def test_a_copy_of_a_record_is_no_record_of_hosted_code(
    ring: LogRing, logger: logging.Logger
) -> None:
    """logging.makeLogRecord, with which queues hand records on, first makes an empty one."""
    made: list[logging.LogRecord] = []
    in_hosted_code(lambda: made.append(logging.makeLogRecord({"msg": "a copy", "levelno": 30})))
    assert made[0].levelno == 30
    assert ring.lines(10, logging.DEBUG) == ()


def test_nothing_of_a_hosted_apps_logging_is_seen_outside(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lifespan, a task of the app's, and a worker thread that it hands its context to."""
    import anyio.to_thread

    async def app(scope: object, receive: object, send: object) -> None:
        await receive()  # type: ignore[operator]
        logger.error("starting up")
        await anyio.to_thread.run_sync(logger.error, "in a worker thread")
        await send({"type": "lifespan.startup.complete"})  # type: ignore[operator]
        await receive()  # type: ignore[operator]
        raise RuntimeError("the shutdown fails")

    before = process_wide.taken_down()
    hosted = HostedApp(app)  # type: ignore[arg-type]
    hosted.wait_started()
    assert not process_wide.changed(before)
    hosted.close()
    assert hosted.wait_closed()
    assert capsys.readouterr().err == ""
    last = [line.splitlines()[0] for line in host_log.lines(3)]
    assert [line.split(": ", 1)[1] for line in last[:2]] == ["starting up", "in a worker thread"]
    assert "the shutdown fails" in last[2]


@pytest.mark.parametrize("place", ["prefect.toml", "pyproject.toml"])
def test_secrets_of_toml_files_are_masked_as_well(place: str) -> None:
    Path(place).write_text(IN_TOML.replace("[", "[tool.prefect." if "project" in place else "["))
    told = secret_mask()("pw canary-1 auth canary-2 key canary-3 address canary-4 header canary-5")
    assert told == "pw *** auth *** key *** address *** header ***"


IN_TOML = """
[server.database]
password = "canary-1"
connection_url = "postgresql+asyncpg://me:canary-4@db/prefect"
[server.api]
auth_string = "admin:canary-2"
[api]
key = "canary-3"
[client.custom_headers]
X-Team = "canary-5"
"""


def test_what_a_start_that_blocks_has_logged_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "admin:open-sesame")
    goes_on = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        logging.getLogger("app").warning("connecting with password open-sesame")
        goes_on.wait(20)

    hosted = HostedApp(app, start_timeout=0.5)
    with pytest.raises(ServerStartFailed) as caught:
        hosted.wait_started()
    goes_on.set()
    hosted.close()
    assert hosted.wait_closed()
    (line,) = [line for line in caught.value.log_lines if "connecting" in line]
    assert line.endswith("app: connecting with password ***")


def every_filter() -> list[object]:
    """The filters of all loggers and their handlers."""
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    loggers = [each for each in known if isinstance(each, logging.Logger)]
    handlers = [handler for each in loggers for handler in each.handlers]
    found = [*loggers, *handlers, logging.lastResort]
    return [filter_ for each in found if each is not None for filter_ in each.filters]


def test_hosts_that_overlap_leave_nothing_in_place(logger: logging.Logger) -> None:
    """One that is slow to end still diverts when the next one begins."""
    before = every_filter()
    ring = LogRing()
    records = HostedRecords(ring, lambda: True)
    first, second = ExitStack(), ExitStack()
    first.enter_context(records.diverted())
    second.enter_context(records.diverted())
    first.close()
    logger.error("for the ring")
    assert len(ring.lines(9)) == 1
    second.close()
    assert every_filter() == before
    records.look()  # a late one
    assert every_filter() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_nothing_is_left_in_a_forked_child(logger: logging.Logger) -> None:
    before = every_filter()
    records = HostedRecords(LogRing(), HOSTED.get)
    with records.diverted(), records._lock:
        child = os.fork()
        if child == 0:
            records.after_fork()
            os._exit(every_filter() != before)
        assert os.waitpid(child, 0)[1] == 0
