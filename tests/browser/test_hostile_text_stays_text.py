from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lacuna_ts.admin.pages import Pages

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="NOT RUN: no chromium here (apt-get install chromium)"),
]

# What runs, shows: each payload tries to change the title, or to ask the server for /fired.
FIRE = "document.title='FIRED';fetch('/fired')"
PAYLOADS = (
    f"<script>{FIRE}</script>",
    f"</script><script>{FIRE}</script>",
    f'<img src=x onerror="{FIRE}">',
    f'<svg onload="{FIRE}">',
    f"<svg><script>{FIRE}</script></svg>",
    f'<body onload="{FIRE}">',
    f'<iframe srcdoc="<script>parent.{FIRE}</script>"></iframe>',
    f'<iframe src="javascript:parent.{FIRE}"></iframe>',
    f"javascript:{FIRE}",
    f'" onmouseover="{FIRE}" autofocus onfocus="{FIRE}" x="',
    f"' onfocus='{FIRE}' autofocus tabindex=1 x='",
    f'<input autofocus onfocus="{FIRE}">',
    f'<details open ontoggle="{FIRE}">',
    f'<video><source onerror="{FIRE}"></video>',
    f'<audio src=x onerror="{FIRE}">',
    f'<marquee onstart="{FIRE}">x</marquee>',
    f'<object data="javascript:{FIRE}"></object>',
    f'<embed src="javascript:{FIRE}">',
    f"<math><mtext><script>{FIRE}</script></mtext></math>",
    f'<a href="javascript:{FIRE}" id=x>x</a>',
    "<link rel=stylesheet href=/fired>",
    "<style>@import '/fired';</style>",
    '<meta http-equiv=refresh content="0;url=/fired">',
    '<base href="/fired/">',
    f"${{{FIRE}}}",
    f'{{{{constructor.constructor("{FIRE}")()}}}}',
    f"`-{FIRE}-`",
    f"';{FIRE};//",
    f"&lt;script&gt;{FIRE}&lt;/script&gt;<!--><script>{FIRE}</script>-->",
    "\u2028</title><img src=/fired>",
    f"<template shadowrootmode=open><script>{FIRE}</script></template>",
    "__proto__",
)
EVERYTHING = " ".join(PAYLOADS)
FLAGS = {"openai_chat": True, "anthropic_messages": True, **dict.fromkeys(PAYLOADS, True)}


def label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


DOCUMENTS = {
    "/api/whoami": {
        "login": EVERYTHING, "display_name": PAYLOADS[0], "user_id": 1, "label": EVERYTHING, "is_tagged": False,
        "is_self": False, "is_shared_in": True, "via": PAYLOADS[1], "groups": PAYLOADS,
        "node": {"name": EVERYTHING, "stable_id": "n", "addresses": PAYLOADS, "tags": PAYLOADS},
        "roles": ["admin", *PAYLOADS], "labels": dict.fromkeys(PAYLOADS, EVERYTHING), "blocked": EVERYTHING,
        "unreadable": EVERYTHING,
        "grants": [{"sentence": text, "origin": text, "covers": PAYLOADS} for text in PAYLOADS],
        "problems": [{"capability": text, "reason": text} for text in PAYLOADS],
        "providers": [{"id": text, "name": text, "sentence": text, "models": PAYLOADS} for text in PAYLOADS],
        "aliases": PAYLOADS, "ask": {"sentence": EVERYTHING, "grant": {"src": PAYLOADS}},
    },
    "/api/providers": [
        {"id": text, "name": text, "description": text, "models": PAYLOADS, "compatibility": FLAGS}
        for text in ("plain", *PAYLOADS)
    ],
    "/api/config": {
        text: {"key": text, "name": text, "baseurl": EVERYTHING, "compatibility": FLAGS}
        for text in ("plain", *PAYLOADS)
    },
    "/api/info": {"version": EVERYTHING, "commit": EVERYTHING, "license": EVERYTHING},
}  # fmt: skip
METRICS = "".join(
    f'lacuna_requests_total{{user="{label(text)}",model="{label(text)}",user_agent="{label(text)}"}} 1\n'
    for text in PAYLOADS
)


class Hostile(BaseHTTPRequestHandler):
    """Serves the real files, and documents in which every text is an attack."""

    pages = Pages.load()
    asked: list[str]

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        is_refused = self.path.startswith("/refused/")
        path = self.path.removeprefix("/refused").removeprefix("/llm")
        if path.startswith("/ui/"):
            status, headers, body = self.pages.page(path)
        elif is_refused:
            status, body = 403, json.dumps({"error": {"message": EVERYTHING}}).encode()
            headers = [("content-type", "application/json"), ("x-lacuna-error", PAYLOADS[0])]
        elif path.startswith("/metrics"):
            status, headers, body = 200, [("content-type", "text/plain; charset=utf-8")], METRICS.encode()
        elif path in DOCUMENTS:
            status, headers, body = 200, [("content-type", "application/json")], json.dumps(DOCUMENTS[path]).encode()
        else:
            status, headers, body = 404, [("content-type", "text/html")], f"<script>{FIRE}</script>".encode()
        self.send_response(status)
        for name, value in [*headers, ("content-length", str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


OUR_ELEMENTS = frozenset(
    {
        "html", "head", "meta", "title", "link", "script", "body", "a", "header", "img", "span",
        "nav", "ul", "li", "div", "p", "b", "button", "main", "noscript", "h1", "h2", "h3",
        "section", "code", "pre", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td",
        "i", "input", "label", "details", "summary",
    }
)  # fmt: skip


class Elements(HTMLParser):
    """What a document consists of, as opposed to what can be read in it."""

    def __init__(self, dom: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.scripts: list[str] = []
        self.title = ""
        self._inside = ""
        self.feed(dom)

    def handle_starttag(self, tag, attrs):
        self._inside = tag
        self.names.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append(dict(attrs).get("src", "inline"))

    def handle_data(self, data):
        if self._inside == "title":
            self.title += data


@pytest.fixture
def hostile():
    handler = type("Handler", (Hostile,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler.asked
        server.shutdown()
        thread.join()


def rendered(address: str, profile: str) -> str:
    """The document as it stands after scripts have run."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}",
        "--virtual-time-budget=3000", "--dump-dom", address,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.parametrize(
    ("place", "shows"),
    [
        ("/ui/#/", "One address for all of them"),
        ("/llm/ui/#/provider/plain", "Client settings"),
        ("/ui/#/you", "Entries that could not be read"),
        ("/ui/#/metrics", "lacuna_requests_total"),
        ("/ui/#/configuration", "baseurl"),
        ("/ui/#/about", "Licence"),
        ("/refused/ui/#/you", "Not for you, as things are"),
        ("/ui/#/provider/%3Cimg%20src%3Dx%20onerror%3Dfetch('%2Ffired')%3E", "Provider not found."),
    ],
)
def test_hostile_text_stays_text(hostile, tmp_path, place, shows):
    """Names that are attacks are read as names: nothing runs, nothing is fetched, no element is made of them."""
    address, asked = hostile
    dom = rendered(address + place, str(tmp_path / "profile"))
    assert shows in dom
    assert not [path for path in asked if "fired" in path]
    # Nothing but our own files and documents is asked for; the browser's own wish for an icon is met by icon.png.
    assert all(re.search(r"/(ui/[a-z.]*|api/[a-z]+|metrics(/me)?)$", path) for path in asked)
    read = Elements(dom)
    assert "FIRED" not in read.title
    assert read.names <= OUR_ELEMENTS
    assert [value for name, value in read.attributes if name.startswith("on") or name in {"style", "srcdoc"}] == []
    assert read.scripts == ["theme.js", "app.js"]
    links = [value for name, value in read.attributes if name in {"href", "src", "action"}]
    assert [link for link in links if not re.match(r"#|[a-z]+\.[a-z]+$|\.\./[a-z/]+$", link)] == []


def test_the_trap_springs(hostile, tmp_path):
    """Without our page around it the same payload runs and is noticed: the other tests could fail."""
    address, asked = hostile
    rendered(f"{address}/elsewhere", str(tmp_path / "profile"))
    assert "/fired" in asked


def test_the_attacks_are_really_shown(hostile, tmp_path):
    """The proof that the payloads reached the page: they stand there to be read."""
    address, _ = hostile
    dom = html.unescape(rendered(f"{address}/ui/#/you", str(tmp_path / "profile")))
    missing = [text for text in PAYLOADS if html.unescape(text) not in html.unescape(dom)]
    assert missing == []


def test_names_of_models_put_no_shell_code_into_settings(hostile, tmp_path):
    """A name that is not plainly one is replaced by a placeholder where people paste."""
    address, _ = hostile
    dom = html.unescape(rendered(f"{address}/ui/#/provider/plain", str(tmp_path / "profile")))
    assert "claude --model __proto__" not in dom
    assert "claude --model MODEL" in dom
