"""Certificates, HTTP/2 and slow connections, on real sockets."""

from __future__ import annotations

import datetime
import ipaddress
import re
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import h2.config
import h2.connection
import h2.events
import httpx
import pytest

import orchnb
from orchnb.http.retry import RetryPolicy
from tests.http.wire import http, read_request

ONE_TRY = RetryPolicy(max_retries=0)


def get(kind: str, url: str, **options: Any) -> Any:
    """What a GET with either client gives."""
    if kind == "sync":
        with orchnb.PrefectHttpxSyncClient(retry_policy=ONE_TRY, **options) as client:
            return client.get(url)

    async def main() -> Any:
        async with orchnb.PrefectHttpxAsyncClient(retry_policy=ONE_TRY, **options) as client:
            return await client.get(url)

    return anyio.run(main)


both = pytest.mark.parametrize("kind", ["async", "sync"])

# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "orchnb test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def serving(handle: Any) -> Iterator[int]:
    """The port of a server that handles one connection after the other."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):  # the client would not have it
                handle(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.fixture
def tls_url(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            read_request(secured)
            http(200, b'"secured"')(secured)

    with serving(handle) as port:
        yield f"https://127.0.0.1:{port}/"


@both
def test_a_certificate_of_ones_own_is_refused_until_it_is_trusted(
    kind: str, tls_url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        get(kind, tls_url)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert get(kind, tls_url).json() == "secured"
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        get(kind, tls_url, trust_env=False)


@both
def test_certificates_need_not_be_verified(kind: str, tls_url: str) -> None:
    assert get(kind, tls_url, verify=False).json() == "secured"


def unusable(folder: Path, certificate: Path) -> dict[str, tuple[Path, str]]:
    """Files that are no certificates to trust, and what the error says of them."""
    content = {
        "empty": b"",
        "der": ssl.PEM_cert_to_DER_cert(
            certificate.read_text()[certificate.read_text().index("-----BEGIN CERTIFICATE") :]
        ),
        "key": certificate.read_bytes()[
            : certificate.read_bytes().index(b"-----BEGIN CERTIFICATE")
        ],
        "broken": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }
    words = {
        "missing": "cannot be read: No such file or directory. Correct the path",
        "empty": "is empty",
        "der": "is not in PEM form. .* convert it: openssl x509 -inform der -in",
        "key": "contains no certificate",
        "broken": "certificates cannot be read",
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return {name: (folder / name, told) for name, told in words.items()}


UNUSABLE = ["missing", "empty", "der", "key", "broken"]


@both
@pytest.mark.parametrize("case", UNUSABLE)
@pytest.mark.parametrize("setting", ["SSL_CERT_FILE", "verify", "PREFECT_API_SSL_CERT_FILE"])
def test_certificates_that_cannot_be_used_are_named_with_the_reason(
    kind: str,
    case: str,
    setting: str,
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, words = unusable(tmp_path, certificate)[case]
    url = "https://127.0.0.1:9/"
    if setting == "verify":
        options: dict[str, Any] = {"verify": str(path)}
        names = "The argument verify"
    else:
        monkeypatch.setenv(setting, str(path))
        options, names = {}, setting

    def use() -> None:
        if not setting.startswith("PREFECT"):
            get(kind, url, **options)
        elif kind == "sync":
            orchnb.SyncPrefectClient(url).open()
        else:
            orchnb.PrefectClient(url).open()

    with pytest.raises(orchnb.InvalidSetting) as caught:
        use()
    assert re.match(
        rf"{names}( \(environment\))? names {re.escape(str(path))}, (which|whose) {words}",
        str(caught.value),
    )


@both
@pytest.mark.parametrize("case", ["missing", "empty", "der"])
def test_a_clients_certificate_that_cannot_be_used_is_named(
    kind: str, case: str, certificate: Path, tmp_path: Path
) -> None:
    path, _ = unusable(tmp_path, certificate)[case]
    for cert in (str(path), (str(certificate), str(path))):
        with pytest.raises(orchnb.InvalidSetting, match="The argument cert names ") as caught:
            get(kind, "https://127.0.0.1:9/", cert=cert)
        assert str(path) in str(caught.value)


@both
def test_a_clients_certificate_is_sent(kind: str, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            read_request(secured)
            http(200, b'"known"')(secured)

    with serving(handle) as port:
        url = f"https://127.0.0.1:{port}/"
        assert get(kind, url, verify=str(certificate), cert=str(certificate)).json() == "known"


@both
def test_a_folder_of_certificates_that_is_not_there_is_named(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    with pytest.raises(
        orchnb.InvalidSetting, match=r"SSL_CERT_DIR names .*none, which is not a fol"
    ):
        get(kind, "https://127.0.0.1:9/")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path))
    with pytest.raises(orchnb.InvalidSetting, match=r"SSL_CERT_FILE names .*, which is a folder"):
        get(kind, "https://127.0.0.1:9/")


def test_a_tilde_in_the_path_of_certificates_is_the_home_folder(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("~/own.pem").expanduser().write_bytes(certificate.read_bytes())
    monkeypatch.setenv("PREFECT_API_SSL_CERT_FILE", "~/own.pem")
    client = orchnb.SyncPrefectClient("https://127.0.0.1:9/api")
    client.open()
    client.close()


# HTTP/2


def speak_http2(connection: socket.socket) -> None:
    """Answer 503, then 200, to whatever comes in over one connection."""
    config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
    talk = h2.connection.H2Connection(config)
    talk.initiate_connection()
    connection.sendall(talk.data_to_send())
    answers = iter(["503", "200"])
    while data := connection.recv(65536):
        for event in talk.receive_data(data):
            if isinstance(event, h2.events.StreamEnded):
                status = next(answers, "200")
                talk.send_headers(event.stream_id, [(":status", status)])
                talk.send_data(event.stream_id, b'"two"', end_stream=True)
        connection.sendall(talk.data_to_send())


def test_http2_is_spoken_and_retried_over_one_connection() -> None:
    waits: list[float] = []
    with (
        serving(speak_http2) as port,
        orchnb.PrefectHttpxSyncClient(http1=False, http2=True, sleep=waits.append) as client,
    ):
        answer = client.get(f"http://127.0.0.1:{port}/")
    assert (answer.http_version, answer.json(), len(waits)) == ("HTTP/2", "two", 1)


def test_http2_is_spoken_by_the_async_client() -> None:
    async def main() -> Any:
        async def sleep(seconds: float) -> None:
            pass

        async with orchnb.PrefectHttpxAsyncClient(http1=False, http2=True, sleep=sleep) as client:
            return await client.get(f"http://127.0.0.1:{port}/")

    with serving(speak_http2) as port:
        answer = anyio.run(main)
    assert (answer.http_version, answer.json()) == ("HTTP/2", "two")


# Time-outs


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_connection_that_is_not_taken_up_in_time_is_tried_again(kind: str) -> None:
    """Nobody accepts, and the queue is full: further calls hang, as with a dead host."""
    waits: list[float] = []
    options: dict[str, Any] = {
        "timeout": httpx.Timeout(10, connect=0.05),
        "retry_policy": RetryPolicy(max_retries=2, random=lambda: 0.5),
        "trust_env": False,
    }

    async def note(seconds: float) -> None:
        waits.append(seconds)

    async def ask_async(url: str) -> None:
        async with orchnb.PrefectHttpxAsyncClient(sleep=note, **options) as client:
            await client.get(url)

    def ask(url: str) -> None:
        if kind == "async":
            anyio.run(ask_async, url)
        else:
            orchnb.PrefectHttpxSyncClient(sleep=waits.append, **options).get(url)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        try:
            with pytest.raises(httpx.ConnectTimeout):
                ask(url)
        finally:
            for filler in fillers:
                filler.close()
    assert waits == [2.0, 4.0]
