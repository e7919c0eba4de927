"""The stand-in tailscaled answers as the real LocalAPI does."""

import asyncio
import json
import os

import pytest

from lacuna_ts.testing import StandInTailscaled, caller

GOOD = "GET /localapi/v0/{} HTTP/1.1\r\nHost: local-tailscaled.sock\r\n{}\r\n"


async def raw(path, request):
    """Send bytes, return status, headers and body of the answer."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request.encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers["content-length"])) if "content-length" in headers else b""
    writer.close()
    await writer.wait_closed()
    return int(head[0].split()[1]), headers, body


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (GOOD.format("status?peers=false", ""), 200),
        (GOOD.format("status", "Origin: http://x\r\n"), 403),
        (GOOD.format("status", "Referer: http://x\r\n"), 403),
        (GOOD.format("status", "").replace("local-tailscaled.sock", "localhost"), 403),
        (GOOD.format("status", "").replace("local-tailscaled.sock", ""), 200),
        (GOOD.format("nothing", ""), 404),
        ("GET /elsewhere HTTP/1.1\r\nHost: local-tailscaled.sock\r\n\r\n", 404),
        (GOOD.format("status", "").replace("GET", "POST"), 200),
        (GOOD.format("cert/ai.tail0123.ts.net", "").replace("GET", "POST"), 405),
        (GOOD.format("whois", ""), 400),
        (GOOD.format("whois?addr=garbage", ""), 400),
        (GOOD.format("whois?addr=100.64.0.9", ""), 404),
        (GOOD.format("whois?addr=100.64.0.1&svc_name=ai", ""), 400),
        (GOOD.format("watch-ipn-bus?mask=65536", ""), 400),
        (GOOD.format("watch-ipn-bus?mask=4352", ""), 400),
        (GOOD.format("cert/unknown.example", ""), 500),
    ],
)
def test_statuses(place, request_text, status):
    """Statuses are those of the real LocalAPI, with its version in the headers."""

    async def scene():
        async with StandInTailscaled(place / "s") as tailscaled:
            tailscaled.cert_uids = {os.geteuid()}
            got, headers, _ = await raw(place / "s", request_text)
            assert got == status
            assert headers["tailscale-version"] == "1.102.3"

    asyncio.run(scene())


def test_requests_wait_until_it_is_ready(place):
    """A daemon that is starting accepts and does not answer."""

    async def scene():
        async with StandInTailscaled(place / "s") as tailscaled:
            tailscaled.ready.clear()
            asking = asyncio.create_task(raw(place / "s", GOOD.format("status", "")))
            await asyncio.sleep(0.05)
            assert not asking.done()
            tailscaled.ready.set()
            assert (await asking)[0] == 200

    asyncio.run(scene())


def test_v4_mapped_addresses_are_not_unmapped(place):
    """The daemon is asked for plain addresses only, and would not know others."""

    async def scene():
        async with StandInTailscaled(place / "s"):
            assert (await raw(place / "s", GOOD.format("whois?addr=::ffff:100.64.0.1", "")))[0] == 404

    asyncio.run(scene())


def test_the_socket_is_gone_when_it_stops(place):
    """As with the real daemon, the socket is removed and made anew."""

    async def scene():
        async with StandInTailscaled(place / "s") as tailscaled:
            assert (place / "s").stat().st_mode & 0o777 == 0o666
            await tailscaled.stop()
            assert not (place / "s").exists()
            await tailscaled.start()
            assert (place / "s").exists()

    asyncio.run(scene())


def test_callers_for_tests():
    """The builder makes callers as tailscaled would describe them."""
    alice = caller("Alice@example.com", capabilities={"x.io/cap": [{"a": 1}, b'{"b":2}']})
    assert (alice.login, alice.key) == ("alice@example.com", "user:1001")
    assert [json.loads(value) for value in alice.capabilities["x.io/cap"]] == [{"a": 1}, {"b": 2}]
    assert caller(tags=["tag:b", "tag:a"]).label == "tag:a,tag:b"
    assert caller(is_self=True).is_self
