"""Records of hosted code go to the ring and nowhere else, whatever they hold."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from orchnb.errors import ServerStartFailed
from orchnb.hosting.host import HostedApp, host_log
from orchnb.hosting.logs import LogRing, divert_records, secret_mask

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
def ring() -> Iterator[LogRing]:
    ring = LogRing()
    with divert_records(ring, HOSTED.get):
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


def test_only_warnings_of_hosted_code_are_diverted(recwarn: pytest.WarningsRecorder) -> None:
    ring = LogRing()
    before = warnings.showwarning
    with divert_records(ring, HOSTED.get):
        warnings.simplefilter("always")
        in_hosted_code(warnings.warn, "from the server", FutureWarning)
        warnings.warn("from the user", stacklevel=1)
    assert warnings.showwarning is before
    in_hosted_code(warnings.warn, "from what has outlived the host")
    assert [str(each.message) for each in recwarn] == [
        "from the user",
        "from what has outlived the host",
    ]
    (line,) = ring.lines(10)
    assert " WARNING py.warnings: " in line
    assert "FutureWarning: from the server" in line


def test_a_handler_that_is_set_up_later_gets_nothing_either(
    ring: LogRing, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.addHandler(late := StderrHandler())
    in_hosted_code(logger.critical, "boom")
    logger.removeHandler(late)
    assert capsys.readouterr().err == ""
    assert len(ring.lines(10)) == 1


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
    with divert_records(ring, lambda: True):
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


def test_the_factory_that_was_there_is_restored() -> None:
    before = logging.getLogRecordFactory()
    with divert_records(LogRing(), lambda: True):
        assert logging.getLogRecordFactory() is not before
    assert logging.getLogRecordFactory() is before


def test_a_factory_that_somebody_has_set_around_ours_stays_and_ours_lets_all_pass() -> None:
    before = logging.getLogRecordFactory()
    ring = LogRing()
    try:
        with divert_records(ring, lambda: True):
            ours = logging.getLogRecordFactory()

            def theirs(*args: object, **kwargs: object) -> logging.LogRecord:
                record = ours(*args, **kwargs)
                record.theirs = True
                return record

            logging.setLogRecordFactory(theirs)
            record = logging.getLogger("tests").makeRecord("x", 30, "f", 1, "m", (), None)
            assert record.theirs  # type: ignore[attr-defined]
            assert len(ring.lines(9)) == 1
        assert logging.getLogRecordFactory() is theirs
        record = theirs("x", 30, "f", 1, "m", (), None)
        assert record.levelno == 30
        assert len(ring.lines(9)) == 1
    finally:
        logging.setLogRecordFactory(before)


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

    before = logging.getLogRecordFactory()
    hosted = HostedApp(app)  # type: ignore[arg-type]
    hosted.wait_started()
    hosted.close()
    assert hosted.wait_closed()
    assert capsys.readouterr().err == ""
    last = [line.splitlines()[0] for line in host_log.lines(3)]
    assert [line.split(": ", 1)[1] for line in last[:2]] == ["starting up", "in a worker thread"]
    assert "the shutdown fails" in last[2]
    assert logging.getLogRecordFactory() is before


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


def test_hosts_that_overlap_leave_nothing_in_place() -> None:
    """One that is slow to end still diverts when the next one begins."""
    before = logging.getLogRecordFactory(), warnings.showwarning
    first, second = ExitStack(), ExitStack()
    first.enter_context(divert_records(LogRing(), lambda: False))
    second.enter_context(divert_records(LogRing(), lambda: False))
    first.close()
    assert logging.getLogRecordFactory() is not before[0]
    second.close()
    assert (logging.getLogRecordFactory(), warnings.showwarning) == before
