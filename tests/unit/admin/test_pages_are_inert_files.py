from __future__ import annotations

import re
from pathlib import Path

import pytest

from lacuna_ts.admin.pages import CONTENT_SECURITY_POLICY, SECURITY_HEADERS, Pages
from lacuna_ts.admin.views import licence

PAGES = Pages.load()
TEXTS = {
    path: PAGES.page(path)[2].decode()
    for path in PAGES.paths
    if path.endswith((".html", ".js", ".css")) or path == "/ui/"
}
ROOT = Path(__file__).resolve().parents[3]


def test_the_index_stands_at_the_folder():
    """/ui/ is the page, under its own name too."""
    status, headers, body = PAGES.page("/ui/")
    assert status == 200
    assert dict(headers)["content-type"] == "text/html; charset=utf-8"
    assert body.startswith(b"<!doctype html>")
    assert PAGES.page("/ui/index.html")[2] == body


@pytest.mark.parametrize("path", PAGES.paths)
def test_every_answer_carries_the_strict_headers(path):
    """Each file is typed, tagged, revalidated, and locked down."""
    status, headers, body = PAGES.page(path)
    named = dict(headers)
    assert (status, bool(body)) == (200, True)
    assert len(named) == len(headers)
    assert named["cache-control"] == "no-cache"
    assert re.fullmatch(r'"[0-9a-f]{32}"', named["etag"])
    assert named.items() >= dict(SECURITY_HEADERS).items()
    assert "unsafe" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize(
    ("given", "status"),
    [("", 200), ("TAG", 304), ("W/TAG", 304), ('"other", TAG', 304), ("*", 304), ('"other"', 200), ("nonsense", 200)],
)
def test_a_known_tag_spares_the_body(given, status):
    """If-None-Match is compared weakly, over a list."""
    tag = dict(PAGES.page("/ui/app.js")[1])["etag"]
    answer = PAGES.page("/ui/app.js", given.replace("TAG", tag))
    assert answer[0] == status
    assert (answer[2] == b"") == (status == 304)
    assert dict(answer[1])["etag"] == tag


def test_the_tag_follows_the_content():
    """Equal bytes have equal tags, other bytes have others."""
    one, two = (Pages([("index.html", body)]).page("/ui/") for body in (b"a", b"b"))
    assert dict(one[1])["etag"] != dict(two[1])["etag"]


@pytest.mark.parametrize(
    "path",
    [
        "/ui/../views.py", "/ui/..%2fviews.py", "/ui/%2e%2e/views.py", "/ui//etc/passwd", "/ui/./index.html",
        "/ui/index.html/", "/ui/INDEX.HTML", "/ui/index.html\x00", "/ui/app.js?x", "/ui\\index.html", "/ui", "", "/",
        "/ui/static/app.js", "/ui/__init__.py", "/ui/licence.txt", "//ui/", "/ui/app.js ", "/ui/../../../etc/passwd",
    ],
)  # fmt: skip
def test_only_names_that_exist_are_answered(path):
    """A path is looked up, not followed."""
    status, headers, body = PAGES.page(path)
    assert (status, body) == (404, b"There is no such page.")
    assert dict(headers).items() >= dict(SECURITY_HEADERS).items()


@pytest.mark.parametrize("path", TEXTS)
def test_nothing_is_fetched_from_elsewhere(path):
    """No absolute address and no path from the root: the page works under every prefix, and without the Internet."""
    text = TEXTS[path]
    assert not re.search(r"https?:|wss?:|@import|\burl\(", text)
    assert not re.search(r"""(?:href|src|action)=["']?/""", text)
    assert not re.search(r"""["'`(]//[a-z]""", text)
    assert not re.search(r"""fetch\(["'`]/""", text)
    assert not re.search(r"""from\s+["'](?!\./)""", text)


@pytest.mark.parametrize("path", TEXTS)
def test_no_text_can_become_markup_or_code(path):
    """No inline script, style or handler, and none of the functions that turn text into either."""
    text = TEXTS[path]
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+\s*=\s*[\"']|javascript:", text)
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|srcdoc|setHTML"
    assert not re.search(forbidden, text)
    assert not re.search(r"setTimeout\(\s*[\"'`]", text)


def test_every_file_that_is_named_exists():
    """Scripts, styles and pictures that a file refers to are there."""
    named = {name for text in TEXTS.values() for name in re.findall(r"""(?:href|src)="([a-z]+\.[a-z]+)\"""", text)}
    named |= {name for text in TEXTS.values() for name in re.findall(r"""from "\./([a-z]+\.js)\"""", text)}
    assert {"app.js", "style.css", "theme.js", "dom.js"} <= named
    assert {f"/ui/{name}" for name in named} <= set(PAGES.paths)


def test_the_shipped_licence_is_the_projects():
    """The copy in the package says what the file at the top says."""
    assert licence() == (ROOT / "LICENSE").read_text("utf-8")
