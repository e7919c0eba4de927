"""One caller's answers leave no trace in another's requests: no cookies, no redirects, no environment."""

from __future__ import annotations

import pytest

from lacuna_ts.errors import UpstreamError
from lacuna_ts.standin.provider import Script, StandInProvider, redirect


def test_cookies_are_not_replayed(talk):
    """A cookie that a provider sets for one is not sent for the next."""

    async def story(t):
        t.provider.script(Script(headers=(("Set-Cookie", "session=alice; Path=/"), ("Set-Cookie2", "x=y"))))
        await t.ask()
        await t.ask()
        assert len(t.upstream._session.cookie_jar) == 0
        return [seen.header("cookie") for seen in t.provider.requests]

    assert talk(story) == [None, None]


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
@pytest.mark.parametrize("body", [True, False])
def test_redirects_are_not_followed(talk, status, body):
    """Whatever the status and the target, the other place gets no connection, and the caller a 502."""

    async def story(t):
        async with StandInProvider() as other:
            for location in (f"{other.url}/v1/chat/completions", "/v1/models", f"//127.0.0.1:{other.port}/x"):
                t.provider.script(redirect(location, status))
                with pytest.raises(UpstreamError) as caught:
                    await (t.send() if body else t.send(None, path="/v1/models"))
                assert (caught.value.kind, caught.value.code) == ("redirect", "upstream_redirect")
                assert str(other.port) not in caught.value.message
            return other.connection_count, len(t.provider.requests)

    assert talk(story) == (0, 3)


def test_the_environment_names_no_proxy_and_no_credentials(talk, monkeypatch, tmp_path):
    """Proxy variables and a netrc file change neither the way nor the credentials."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login evil password evil\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def story(t):
        await t.ask()
        return t.provider.requests[0]

    assert talk(story).header("authorization").startswith("Bearer sk-ours")


def test_answers_arrive_as_they_were_sent(talk, ask_stream):
    """Compressed bytes stay compressed: a provider's answer is passed on byte for byte."""

    async def story(t):
        t.provider.script(Script(is_gzipped=True))
        response = await t.send(body=ask_stream)
        body = await response.read(1 << 20)
        response.release()
        return response.content_encoding, body[:2]

    assert talk(story) == ("gzip", b"\x1f\x8b")


def test_the_answers_facts(talk, ask_stream):
    """Status, type, coding and length come from the head; a stream has no length."""

    async def story(t):
        t.provider.script(Script(content_type="Application/JSON; charset=utf-8"), Script())
        whole = await t.send()
        size = len(await whole.read(1 << 20))
        whole.release()
        stream = await t.send(body=ask_stream)
        stream.close()
        assert (whole.status, whole.content_type, whole.content_encoding, whole.content_length) == (
            200, "application/json", "", size,
        )  # fmt: skip
        assert (stream.content_type, stream.content_length) == ("text/event-stream", None)

    talk(story)


def test_a_large_body_goes_up_whole(talk, ask_stream):
    """Bodies of every size arrive unchanged and without a warning."""

    async def story(t):
        for size in (0, 1, 65_000, 66_000, 1_100_000, 5_000_000):
            body = ask_stream[:-1] + b',"x":"' + b"a" * size + b'"}'
            await t.ask(body=body)
            assert t.provider.requests[-1].body == body
        return t.provider.connection_count

    assert talk(story) == 1


def test_a_request_does_not_show_its_key(talk, our_key):
    """The printed form of a request holds neither headers nor body."""

    async def story(t):
        return repr(t.request())

    assert our_key not in talk(story)
