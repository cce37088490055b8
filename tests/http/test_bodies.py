"""Bodies of any size and encoding: decoding has a limit, and large JSON is parsed in steps."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import orchnb
from orchnb.errors import OrchnbError, PrefectHTTPStatusError, UnexpectedAnswer
from orchnb.http.body import LARGEST_SMALL_ANSWER, BodyRefused, Decoder
from orchnb.http.json_steps import JSONRefused, finish, parse
from orchnb.http.response import PrefectResponse
from orchnb.http.retry import LARGEST
from tests.http.test_clients_edges import Body, Scripted, both, quiet

MB = 1_000_000
LIMIT = 100_000


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
    "GZip": gzip.compress,
}


def packed(data: bytes, *names: str) -> bytes:
    for name in names:
        data = PACKERS[name](data)
    return data


# Decoding


@given(
    st.binary(max_size=3_000),
    st.lists(st.sampled_from(sorted(PACKERS)), max_size=5),
    st.integers(1, 500),
    st.integers(0, 3),
)
def test_a_body_comes_out_as_it_went_in_whatever_its_layers_and_parts(
    data: bytes, names: list[str], size: int, factor: int
) -> None:
    data *= factor * 50
    wire = packed(data, *names)
    decoder = Decoder(names, len(data))
    parts = (wire[start : start + size] for start in range(0, len(wire), size))
    assert b"".join(piece for part in parts for piece in decoder.decode(part)) == data


def test_deflate_is_read_without_its_header_as_well() -> None:
    for size in (1, 1_000):
        wire = raw_deflate(b"words " * 50)
        decoder = Decoder(["deflate"], 1_000)
        parts = (wire[start : start + size] for start in range(0, len(wire), size))
        assert b"".join(piece for part in parts for piece in decoder.decode(part)) == b"words " * 50


def zeros(size: int, *names: str) -> bytes:
    return packed(bytes(size), *names)


def empty_blocks() -> Iterator[bytes]:
    """A gzip stream that goes on and on and holds nothing."""
    packer = zlib.compressobj(wbits=31)
    yield packer.compress(b"x") + packer.flush(zlib.Z_SYNC_FLUSH)
    while True:
        yield b"\x00\x00\x00\xff\xff" * 1_000


def long_name() -> Iterator[bytes]:
    """A gzip header whose file name has no end."""
    yield b"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xff"
    while True:
        yield b"n" * 5_000


def after_the_end() -> Iterator[bytes]:
    yield gzip.compress(b"{}")
    while True:
        yield b"more" * 1_000


HOSTILE_BODIES: dict[str, tuple[list[str], Callable[[], Any]]] = {
    "plain": ([], lambda: [bytes(LIMIT + 1)]),
    "endless": ([], lambda: iter(lambda: b"0" * 5_000, b"")),
    "one layer": (["gzip"], lambda: [zeros(20 * MB, "gzip")]),
    "deflate": (["deflate"], lambda: [zeros(20 * MB, "deflate")]),
    "two layers": (["gzip", "gzip"], lambda: [zeros(20 * MB, "gzip", "gzip")]),
    "five layers": (["gzip"] * 5, lambda: [zeros(20 * MB, *["gzip"] * 5)]),
    "mixed": (["deflate", "gzip"], lambda: [zeros(20 * MB, "deflate", "gzip")]),
    "empty blocks": (["gzip"], empty_blocks),
    "a long name": (["gzip"], long_name),
    "a long name, packed": (
        ["gzip", "gzip"],
        lambda: [gzip.compress(next(long_name()) + b"n" * 20 * MB)],
    ),
    "after the end": (["gzip"], after_the_end),
}


@pytest.mark.parametrize("case", HOSTILE_BODIES)
def test_decoding_stops_at_the_limit_and_takes_little_memory(case: str) -> None:
    names, body = HOSTILE_BODIES[case]
    parts = body()
    decoder = Decoder(names, LIMIT)
    size = 0
    tracemalloc.start()
    try:
        pieces = (piece for part in parts for piece in decoder.decode(part))
        with pytest.raises(BodyRefused, match="more than 100,000 bytes"):  # noqa: PT012 - of any piece
            for piece in pieces:
                size += len(piece)
                assert len(piece) <= 65_536
        assert tracemalloc.get_traced_memory()[1] < 3 * MB
    finally:
        tracemalloc.stop()
    assert size <= LIMIT


def test_more_is_announced_than_may_come() -> None:
    with pytest.raises(BodyRefused, match="more than 100 bytes"):
        Decoder([], 100, "101")
    assert b"".join(Decoder([], 100, "100").decode(bytes(100))) == bytes(100)
    Decoder([], 100, "9" * 50)  # nonsense, which h11 refuses


@pytest.mark.parametrize(
    ("names", "words"),
    [(["gzip"] * 6, "6 layers"), (["br"], "not requested"), (["gzip", "zstd"], "not requested")],
)
def test_what_cannot_be_bounded_is_not_decoded(names: list[str], words: str) -> None:
    with pytest.raises(BodyRefused, match=words):
        Decoder(names, LIMIT)


# Both clients


def answer(
    body: httpx.SyncByteStream, *, status: int = 200, encoding: str = "", **headers: str
) -> Scripted:
    head = {**({"Content-Encoding": encoding} if encoding else {}), **headers}
    return Scripted(lambda: httpx.Response(status, stream=body, headers=head))


BOMB = zeros(300 * MB, "gzip", "gzip")


@both
@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("gzip, gzip", BOMB, "more than 256,000,000 bytes, and was not read any further"),
        ("gzip, " * 6, BOMB, "6 layers of Content-Encoding"),
        ("br", b"any", "Content-Encoding that was not requested"),
    ],
)
def test_a_result_that_is_too_large_is_an_error_that_names_the_limit(
    ask: Any, encoding: str, body: bytes, words: str
) -> None:
    stream = Body(body)
    with pytest.raises(UnexpectedAnswer, match=words) as caught:
        ask(answer(stream, encoding=encoding))
    assert "iter_flow_runs" in caught.value.hint
    assert stream.closed


@both
@pytest.mark.parametrize("status", [400, 404, 503])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_that_is_too_large_is_its_status_without_words(
    ask: Any, status: int, stream: bool
) -> None:
    body = Body(BOMB)
    transport = answer(body, status=status, encoding="gzip, gzip")
    with pytest.raises(PrefectHTTPStatusError) as caught:
        ask(transport, stream=stream)
    assert caught.value.status_code == status
    assert "more than 1,000,000 bytes and was not read" in str(caught.value)
    assert caught.value.response.content == b""
    assert transport.sent == (6 if status == 503 else 1)
    assert body.closed == transport.sent


@both
def test_an_error_may_repeat_what_was_sent(ask: Any) -> None:
    text = "x" * 2 * LARGEST_SMALL_ANSWER
    fault = json.dumps({"detail": [{"loc": ["body"], "msg": "no good", "input": text}]})
    request = httpx.Request("POST", "http://s/x", content=text)
    response = PrefectResponse.from_httpx_response(
        httpx.Response(422, stream=Body(fault.encode()), request=request)
    )
    response.read()
    with pytest.raises(PrefectHTTPStatusError, match="no good"):
        response.raise_for_status()
    with pytest.raises(PrefectHTTPStatusError, match="more than 1,000,000 bytes"):
        ask(answer(Body(fault.encode()), status=422))


def streamed(*parts: bytes, encoding: str = "") -> PrefectResponse:
    return PrefectResponse.from_httpx_response(
        httpx.Response(
            200,
            stream=Body(*parts),
            headers={"Content-Encoding": encoding},
            request=httpx.Request("GET", "http://s"),
        )
    )


async def lengths(response: PrefectResponse, size: int | None) -> list[int]:
    return [len(part) async for part in response.aiter_bytes(size)]


READERS: list[Callable[[PrefectResponse, int | None], list[int]]] = [
    lambda response, size: [len(part) for part in response.iter_bytes(size)],
    lambda response, size: anyio.run(lengths, response, size),
]


@pytest.mark.parametrize("read", READERS)
def test_what_is_read_in_parts_comes_in_small_pieces_without_end(read: Any) -> None:
    sizes = read(streamed(BOMB, encoding="gzip, gzip"), None)
    assert sum(sizes) == 300 * MB
    assert max(sizes) <= 65_536


@pytest.mark.parametrize("read", READERS)
def test_chunks_have_the_size_that_is_asked_for(read: Any) -> None:
    assert read(streamed(bytes(700), bytes(300)), 400) == [400, 400, 200]


class Reads(httpx.Auth):
    """An authentication that wants to see the body of each answer."""

    requires_response_body = True

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        yield request


@both
@pytest.mark.parametrize("status", [200, 302])
@pytest.mark.parametrize("options", [{"auth": Reads()}, {"follow_redirects": True}])
def test_who_reads_the_answer_first_reads_it_to_the_limit(
    ask: Any, status: int, options: dict[str, Any]
) -> None:
    body = Body(BOMB)
    transport = answer(body, status=status, encoding="gzip, gzip", Location="/y")
    with pytest.raises((OrchnbError, httpx.HTTPError)):
        ask(transport, **options)
    assert body.closed == transport.sent


@both
@pytest.mark.parametrize("status", [200, 302])
def test_a_hook_that_reads_the_answer_reads_it_to_the_limit(ask: Any, status: int) -> None:
    async def aread(response: httpx.Response) -> None:
        await response.aread()

    def read(response: httpx.Response) -> None:
        response.read()

    reader = aread if "async" in repr(ask) else read
    transport = answer(Body(BOMB), status=status, encoding="gzip, gzip", Location="/y")
    with pytest.raises((OrchnbError, httpx.HTTPError)):
        ask(
            transport,
            follow_redirects=True,
            event_hooks={"response": [reader]},
        )


@both
def test_the_encodings_that_are_asked_for_can_be_bounded(ask: Any) -> None:
    for headers, sent in ((None, "gzip, deflate"), ({"accept-encoding": "identity"}, "identity")):
        transport = answer(Body(b"{}"))
        request = ask(transport, headers=headers).request
        assert request.headers["accept-encoding"] == sent


@pytest.mark.parametrize(
    ("limit", "size", "fine"), [(10, 10, True), (10, 11, False), (300 * MB, 257 * MB, True)]
)
def test_a_request_can_ask_for_another_limit(limit: int, size: int, fine: bool) -> None:
    body = Body(*[b"1" * (size // 10)] * 10, b"1" * (size % 10))
    with orchnb.PrefectHttpxSyncClient(
        transport=answer(body), base_url="http://s", retry_policy=quiet()
    ) as client:
        if fine:
            assert len(client.get("/x", extensions={LARGEST: limit}).content) == size
            return
        with pytest.raises(UnexpectedAnswer, match=f"more than {limit:,} bytes"):
            client.get("/x", extensions={LARGEST: limit})


@pytest.mark.parametrize("charset", ["zip", "bz2", "hex", "rot13", "punycode", "idna", "undefined"])
def test_a_charset_cannot_unpack_anything(charset: str) -> None:
    body = zlib.compress(bytes(50 * MB)) if charset == "zip" else b"\xe9"
    response = PrefectResponse(
        200, content=body, headers={"Content-Type": f"text/plain; charset={charset}"}
    )
    assert len(response.text) <= len(body)


# JSON in steps

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(alphabet='a,]}"\\ \n\u00e9\U0001f600', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(alphabet="k,:}", max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


def outcome(read: Callable[[], Any]) -> Any:
    try:
        return repr(read())
    except ValueError:
        return ValueError


@given(VALUES, st.integers(1, 30), st.sampled_from([None, 1, "\t"]), st.data())
def test_json_in_steps_is_as_json_in_one(
    value: Any, window: int, indent: Any, data: st.DataObject
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=data.draw(st.booleans()))
    place = data.draw(st.integers(0, len(text)))
    more = data.draw(st.sampled_from(["", ",", "]", "}", "1", '"', "[", "{", ":", "e", " "]))
    for each in (text, text[:place] + more + text[place + 1 :]):
        in_steps = outcome(lambda each=each: finish(parse(each, window)))
        assert in_steps == outcome(lambda each=each: json.loads(each))


@pytest.mark.parametrize("window", [100, 10**9])
@pytest.mark.parametrize("opening", ["[", '{"a":', "[[],"])
def test_what_is_nested_too_deeply_is_no_json(window: int, opening: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        finish(parse(opening * 200_000, window))


@pytest.mark.parametrize("text", ["[],", '"",'])
def test_json_of_too_many_values_is_not_parsed(text: str) -> None:
    steps = parse("[" + text * 31_000_000)
    with pytest.raises(JSONRefused, match="more than 30,000,000 values"):
        next(steps)


ROW = {"id": "x" * 30, "values": [1, 2.5, None], "text": "a, [b] {c}"}
LARGE_ANSWERS: dict[str, Any] = {
    "rows": [ROW] * 1_000,
    "numbers": list(range(20_000)),
    "a page": {"total": 1, "events": [ROW] * 1_000},
    "deep": [[[[ROW] * 1_000]]],
    "an object": {str(number): ROW for number in range(1_000)},
}


@pytest.mark.parametrize("case", LARGE_ANSWERS)
def test_large_json_takes_many_steps_of_which_none_is_large(case: str) -> None:
    """In one step no more is parsed than a few windows: so steps are as many as windows, about."""
    text = json.dumps(LARGE_ANSWERS[case])
    window = 1_000
    steps = sum(1 for _ in parse(text, window))
    assert len(text) / window / 2 < steps < 4 * len(text) / window


@pytest.mark.anyio
async def test_a_cancellation_ends_the_parsing_of_a_large_answer() -> None:
    response = PrefectResponse(200, content=json.dumps([ROW] * 200_000).encode())
    turns = 0

    async def others() -> None:
        nonlocal turns
        while turns < 5:
            await anyio.lowlevel.checkpoint()
            turns += 1
        group.cancel_scope.cancel()

    parsed = False
    async with anyio.create_task_group() as group:
        group.start_soon(others)
        await response.aparse()
        parsed = True
    assert turns == 5
    assert not parsed
    assert len(response.json()) == 200_000


@pytest.mark.anyio
async def test_what_was_parsed_in_advance_is_given_once() -> None:
    large = json.dumps([ROW] * 20_000)
    response = PrefectResponse(200, content=large.encode())
    await response.aparse()
    assert response.json() == response.json() == json.loads(large)
    broken = PrefectResponse(200, content=large.encode() + b",")
    await broken.aparse()
    for _ in range(2):
        with pytest.raises(ValueError, match="Extra data"):
            broken.json()
