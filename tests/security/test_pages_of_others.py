"""What pages of other origins can do with the port, in a real browser that is signed in: nothing.

The attacker knows the port and the random path of its pages, which is more than a page can find out.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from tests.security.conftest import Port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page


class _Page(BaseHTTPRequestHandler):
    """A page with the links that its path names; it keeps the cookies that it is sent."""

    cookies: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.cookies.append(self.headers.get("Cookie", ""))
        body = b"<!DOCTYPE html><title>evil</title><body>a page</body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # the browser has left
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def other() -> Iterator[int]:
    """The port of another server on this machine, with a page of the attacker's."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield server.server_port
    server.shutdown()
    serving.join()
    server.server_close()


def follow(page: Page, link: str) -> None:
    """Click a link on a page, as a person does in a notebook."""
    page.evaluate(
        "link => { const a = document.createElement('a'); a.href = link; a.id = 'link';"
        " a.textContent = 'link'; a.rel = 'noopener noreferrer'; document.body.append(a); }",
        link,
    )
    page.click("#link")


@pytest.fixture(scope="module")
def signed_in(browser: Browser, port: Port, other: int) -> Iterator[BrowserContext]:
    """A browser that has opened the link, in a notebook of JupyterLab at localhost, say."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://localhost:{other}/lab")
    follow(page, port.links.pop())
    page.wait_for_url(f"{port.address}{port.base}/**/dashboard*")
    assert "code=" not in page.url
    page.close()
    yield context
    context.close()


ATTACKS = {
    "read variables": "return (await fetch(`${api}/variables/filter`, {method: 'POST', body: '{}',"
    " headers: {'Content-Type': 'application/json'}, credentials: 'include'})).ok",
    "read variables without a preflight": "return (await fetch(`${api}/variables/filter`,"
    " {method: 'POST', body: '{}', credentials: 'include'})).ok",
    "read by GET": "return (await fetch(`${api}/collections/views/aggregate-worker-metadata`,"
    " {credentials: 'include'})).ok",
    "write without a preflight": "await fetch(`${api}/flows/`, {method: 'POST', mode: 'no-cors',"
    " body: new Blob(['{\"name\": \"evil\"}']), credentials: 'include'}); return false",
    "write text": "await fetch(`${api}/variables/`, {method: 'POST', mode: 'no-cors',"
    ' body: \'{"name": "evil", "value": 1}\', credentials: \'include\'}); return false',
    "delete": "return (await fetch(`${api}/variables/name/precious`, {method: 'DELETE',"
    " credentials: 'include'})).ok",
    "beacon": 'navigator.sendBeacon(`${api}/flows/`, new Blob([\'{"name": "evil"}\']));'
    " return false",
    "guess": "return (await fetch(`${api}/hello`, {headers: {Authorization: 'Basic b3JjaG5iOg=='}})).ok",
    "script": "return await new Promise(done => { const s = document.createElement('script');"
    " s.src = `${api}/hello`; s.onload = () => done(true); s.onerror = () => done(false);"
    " document.head.append(s); })",
    "picture": "return await new Promise(done => { const s = new Image();"
    " s.src = `${pages}/ico/favicon-32x32-dark.png`; s.onload = () => done(true);"
    " s.onerror = () => done(false); })",
    "web socket that sends events": "return await socket(`${api}/events/in`, [], EVENT)",
    "web socket that says it is Prefect's": "return await socket(`${api}/events/in`, ['prefect'],"
    ' \'{"type": "auth", "token": null}\', EVENT)',
    "web socket that reads events": "return await socket(`${api}/events/out`, ['prefect'],"
    ' \'{"type": "auth", "token": ""}\', \'{"type": "filter", "filter": {}}\')',
    "form": "return await form(`${api}/flows/`)",
}

TOOLS = """
const EVENT = JSON.stringify({event: 'evil', resource: {'prefect.resource.id': 'evil'},
  occurred: new Date().toISOString(),
  id: '0d6d4b4e-0000-4000-8000-000000000000'});
const socket = (url, protocols, ...messages) => new Promise(done => {
  const s = new WebSocket(url.replace('http', 'ws'), protocols);
  let heard = false;
  s.onopen = () => { messages.forEach(m => s.send(m)); };
  s.onmessage = () => { heard = true; s.close(); };
  s.onerror = s.onclose = () => done(heard);
});
const form = url => new Promise(done => {
  const sent = document.createElement('form'), frame = document.createElement('iframe');
  frame.name = sent.target = String(Math.random());
  Object.assign(sent, {method: 'POST', enctype: 'text/plain', action: url});
  const input = document.createElement('input');  // name=value is JSON
  input.name = '{"name": "evil", "labels": {"';
  input.value = '": 1}}';
  sent.append(input);
  document.body.append(frame, sent);
  sent.submit();
  frame.onload = () => done(false);
});
"""


def try_all(page: Page, port: Port, host: str) -> dict[str, Any]:
    """What each attack has come to, by both ways to the API."""
    results = {}
    for way in (port.base, ""):
        for name, code in ATTACKS.items():
            pages = f"http://{host}:{port.number}{way}"
            source = (
                f"async () => {{ {TOOLS} const pages = {json.dumps(pages)}, api = `${{pages}}/api`;"
                f" const attack = async () => {{ {code} }};"
                " const late = new Promise(done => setTimeout(() => done('nothing came'), 5000));"
                " try { return await Promise.race([attack(), late]); }"
                " catch (error) { return String(error); } }"
            )
            results[f"{name} {way}"] = page.evaluate(source)
    return results


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "evil.test"])
def test_a_page_of_another_origin_gets_nothing_done(
    signed_in: BrowserContext, port: Port, other: int, name: str
) -> None:
    before = port.contents()
    page = signed_in.new_page()
    page.goto(f"http://{name}:{other}/")
    results = try_all(page, port, "127.0.0.1")
    page.close()
    assert {attack for attack, result in results.items() if result is True} == set()
    assert port.contents() == before


def test_dns_rebinding_gets_nothing_done(signed_in: BrowserContext, port: Port) -> None:
    before = port.contents()
    page = signed_in.new_page()
    answer = page.goto(f"http://evil.test:{port.number}{port.base}/")
    assert answer is not None
    assert answer.status == 403
    results = try_all(page, port, "evil.test")
    page.close()
    assert {attack for attack, result in results.items() if result is True} == set()
    assert port.contents() == before


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_no_other_page_frames_the_pages(
    signed_in: BrowserContext, port: Port, other: int, name: str
) -> None:
    page = signed_in.new_page()
    page.goto(f"http://{name}:{other}/")
    with page.expect_response(lambda answer: str(port.number) in answer.url) as answer:
        page.evaluate(
            "url => { const f = document.createElement('iframe'); f.src = url;"
            " document.body.append(f); }",
            f"{port.address}{port.base}/",
        )
    assert answer.value.status == 403
    assert answer.value.header_value("x-frame-options") == "SAMEORIGIN"
    page.close()


def test_a_link_to_the_api_leads_nowhere(signed_in: BrowserContext, port: Port, other: int) -> None:
    page = signed_in.new_page()
    page.goto(f"http://localhost:{other}/")
    with page.expect_response(f"{port.address}{port.base}/api/variables/**") as answer:
        follow(page, f"{port.address}{port.base}/api/variables/name/precious")
    assert answer.value.status == 403
    page.close()


def test_another_server_on_this_machine_is_not_sent_the_cookie(
    signed_in: BrowserContext, other: int
) -> None:
    page = signed_in.new_page()
    _Page.cookies.clear()
    page.goto(f"http://127.0.0.1:{other}/")
    page.close()
    assert _Page.cookies
    assert not any("orchnb" in cookie for cookie in _Page.cookies)


def test_the_persons_own_page_works(signed_in: BrowserContext, port: Port) -> None:
    page = signed_in.new_page()
    failed: list[str] = []
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    page.goto(f"{port.address}{port.base}/runs")
    page.get_by_text("first-of-all").first.wait_for(timeout=30_000)
    assert failed == []
    results = try_all(page, port, "127.0.0.1")
    page.close()
    # It is the attacks that are refused, and not everything.
    succeeded = {attack.rpartition(" ")[0] for attack, result in results.items() if result is True}
    assert succeeded >= {"read variables", "read by GET", "delete", "web socket that reads events"}
    # What the path of the cookie leaves out.
    assert not any(result is True for attack, result in results.items() if attack.endswith(" "))
    port.ask("POST", "/variables/", json={"name": "precious", "value": "again"})


def test_a_link_in_a_notebook_to_one_run_works(
    signed_in: BrowserContext, port: Port, other: int
) -> None:
    [run] = port.ask("POST", "/flow_runs/filter", json={})
    page = signed_in.new_page()
    page.goto(f"http://localhost:{other}/lab")
    follow(page, f"{port.address}{port.base}/runs/flow-run/{run['id']}")
    page.get_by_text("first-of-all").first.wait_for(timeout=30_000)
    assert page.url == f"{port.address}{port.base}/runs/flow-run/{run['id']}"
    page.close()


def test_a_browser_that_is_not_signed_in_is_told_what_to_do(
    browser: Browser, port: Port, other: int
) -> None:
    context = browser.new_context()
    page = context.new_page()
    used = port.links.pop()
    page.goto(used)
    page.wait_for_url(f"{port.address}{port.base}/**/dashboard*")
    context.clear_cookies()
    for link in (used, f"{port.address}{port.base}/runs"):
        page.goto(f"http://localhost:{other}/lab")
        follow(page, link)
        page.get_by_text("Run %orch_serve in the notebook").wait_for()
    context.close()
