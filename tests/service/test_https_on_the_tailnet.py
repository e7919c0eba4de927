"""HTTPS listeners: certificates of tailscaled or of files, the same gate behind them, swapped without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import trustme
from fakes.house import House, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

NAME = "ai.tail0123.ts.net"
SERVICE = "svc.tail0123.ts.net"
CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
CA = trustme.CA()


def pem(*names: str) -> bytes:
    """A key and its chain, as tailscaled gives them."""
    leaf = CA.issue_cert(*names)
    return leaf.private_key_pem.bytes() + b"".join(one.bytes() for one in leaf.cert_chain_pems)


def trust() -> ssl.SSLContext:
    """A client that believes our authority and checks names."""
    context = ssl.create_default_context()
    CA.configure_trust(context)
    return context


class Secured(House):
    """A house with a plain and an HTTPS listener, and a member who calls from the tailnet."""

    def __init__(self, tls: Any = True, **rest: Any) -> None:
        super().__init__(**rest)
        self.tls_port = free_port()
        self._config = {"listen": [{"tailnet": self.port}, {"tailnet": self.tls_port, "tls": tls}]}
        self.tailscaled.cert_uids = {os.geteuid()}
        self.tailscaled.certificates = {NAME: pem(NAME)}
        self.tailscaled.loopback_node = self.person("100.64.0.7", "alice@example.com", {})

    async def serial(self, name: str = NAME) -> str:
        """The serial number of the certificate that is shown for `name`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.tls_port, ssl=trust(), server_hostname=name)
        shown = writer.get_extra_info("peercert")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        del reader
        return shown["serialNumber"]

    async def exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, port: int | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request, over HTTPS unless `port` is the plain one."""
        port = port or self.tls_port
        tls: dict[str, Any] = {"ssl": trust(), "server_hostname": NAME} if port == self.tls_port else {}
        reader, writer = await asyncio.open_connection("127.0.0.1", port, **tls)
        lines = [f"{method} {path} HTTP/1.1", "Connection: close", *(f"{k}: {v}" for k, v in headers.items())]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
        return int(head.split()[1]), fields, rest


async def until(found: Any, within_s: float = 5.0) -> None:
    """Wait until `await found()` is true."""
    async with asyncio.timeout(within_s):
        while not await found():
            await asyncio.sleep(0.02)


def named_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gateway's tailnet name lead to this machine, as MagicDNS would lead to its node."""
    real = socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **options: Any) -> Any:
        return real("127.0.0.1" if host in {NAME, NAME.encode()} else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_real_clients_over_https(monkeypatch: pytest.MonkeyPatch) -> None:
    """The OpenAI and the Anthropic SDK, whole and streamed, verify tailscaled's certificate and are served."""
    named_here(monkeypatch)

    async def scenario() -> None:
        async with Secured() as house:
            base = f"https://{NAME}:{house.tls_port}"
            http = openai.DefaultAsyncHttpxClient(verify=trust())
            async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="-", http_client=http, max_retries=0) as gpt:
                answer = await gpt.chat.completions.create(**CHAT)
                assert answer.choices[0].message.content
                pieces = [piece async for piece in await gpt.chat.completions.create(**CHAT, stream=True)]
                assert len(pieces) > 1
            http = anthropic.DefaultAsyncHttpxClient(verify=trust())
            async with anthropic.AsyncAnthropic(base_url=base, api_key="-", http_client=http, max_retries=0) as claude:
                said = await claude.messages.create(
                    model="claude-sonnet-5", max_tokens=50, messages=[{"role": "user", "content": "hi"}]
                )
                assert said.usage.output_tokens > 0
            assert {line["login"] for line in house.exchanges()} == {"alice@example.com"}
            assert "Traceback" not in house.log_text()

    asyncio.run(scenario())


def test_the_gate_is_the_same_behind_tls() -> None:
    """Host, web pages, forged names and unknown callers are judged as on the plain port, which answers as before."""

    async def scenario() -> None:
        async with Secured() as house:
            body = json.dumps(CHAT).encode()
            cases = [
                ({"Host": "evil.example.com"}, 421, "misdirected"),
                ({"Host": NAME, "Origin": "https://evil.example.com"}, 403, "cross_site"),
                ({"Host": NAME, "Sec-Fetch-Site": "cross-site"}, 403, "cross_site"),
                ({"Host": NAME, "Tailscale_User_Login": "admin@example.com"}, 400, "bad_request"),
                ({"Host": NAME, "Tailscale-User-Login": "admin@example.com", "X-Forwarded-For": "100.64.0.9"}, 200, ""),
            ]
            for headers, status, code in cases:
                for port in (house.tls_port, house.port):
                    found, fields, _ = await house.exchange("POST", "/v1/chat/completions", headers, body, port=port)
                    assert (found, fields.get("x-lacuna-error", "")) == (status, code), (headers, port)
            own = {"Host": f"{NAME}:{house.tls_port}", "Origin": f"https://{NAME}:{house.tls_port}"}
            status, _, who = await house.exchange("GET", "/api/whoami", own)
            assert (status, json.loads(who)["login"]) == (200, "alice@example.com")
            house.tailscaled.loopback_node = None
            status, fields, _ = await house.exchange("GET", "/api/whoami", {"Host": NAME})
            assert (status, fields["x-lacuna-error"]) == (403, "unknown_peer")

    asyncio.run(scenario())


def test_certificates_come_late_for_several_names_and_are_renewed() -> None:
    """The port opens with the certificates, each name has its own, and a renewal disturbs no open connection."""

    async def scenario() -> None:
        house = Secured()
        house.tailscaled.certificates = {}
        house.tailscaled.cert_domains = [NAME, SERVICE]
        async with house:
            with contextlib.suppress(ConnectionRefusedError):
                await house.serial()
                raise AssertionError("open without a certificate")
            status, _, _ = await house.exchange("GET", "/health", {"Host": NAME}, port=house.port)
            assert status == 200
            house.tailscaled.certificates = {NAME: pem(NAME), SERVICE: pem(SERVICE)}
            assert house.process is not None
            house.process.send_signal(signal.SIGHUP)

            async def is_open() -> bool:
                with contextlib.suppress(OSError):
                    return bool(await house.serial(SERVICE))
                return False

            await until(is_open)
            await house.wait_for_notice(
                f"STATUS=serving on 127.0.0.1 port {house.port}, 127.0.0.1 port {house.tls_port}"
            )
            assert "certificate" not in house.notices[-1]
            before = await house.serial()
            assert before != await house.serial(SERVICE)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", house.tls_port, ssl=trust(), server_hostname=NAME
            )
            house.tailscaled.certificates[NAME] = pem(NAME)
            house.process.send_signal(signal.SIGHUP)

            async def is_renewed() -> bool:
                return await house.serial() != before

            await until(is_renewed)
            writer.write(f"GET /health HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()

    asyncio.run(scenario())


def test_no_permission_leaves_the_plain_port_open() -> None:
    """Without permission for certificates the daemon runs, names the fix once, and serves plain HTTP."""

    async def scenario() -> None:
        house = Secured()
        house.tailscaled.cert_uids = set()
        async with house:
            status, _, _ = await house.exchange("GET", "/health", {"Host": NAME}, port=house.port)
            assert status == 200
            assert house.log_text().count("TS_PERMIT_CERT_UID=") == 1
            plain = f"STATUS=serving on 127.0.0.1 port {house.port}"
            await house.wait_for_notice(f"{plain}; tailscaled does not give the certificate")
            house.notices.clear()
            house.tailscaled.cert_uids = {os.geteuid()}
            assert house.process is not None
            house.process.send_signal(signal.SIGHUP)
            await house.wait_for_notice(f"{plain}, 127.0.0.1 port {house.tls_port}")
            assert "certificate" not in house.notices[-1]

    asyncio.run(scenario())


def test_files_are_read_again_and_a_wrong_one_changes_nothing() -> None:
    """SIGHUP takes a new pair; a pair that does not match leaves the old one in service and is reported."""

    async def scenario() -> None:
        house = Secured()
        files = {"cert": str(house.folder / "cert.pem"), "key": str(house.folder / "key.pem")}
        house._config["listen"][1]["tls"] = files

        def write(text: bytes) -> None:
            end = text.find(b"-----BEGIN CERTIFICATE")
            (house.folder / "key.pem").write_bytes(text[:end])
            (house.folder / "cert.pem").write_bytes(text[end:])

        write(pem(NAME))
        async with house:
            assert house.process is not None
            first = await house.serial()
            (house.folder / "cert.pem").write_bytes(pem(NAME))
            house.process.send_signal(signal.SIGHUP)

            async def is_reported() -> bool:
                return "does not belong to the certificate" in house.log_text()

            await until(is_reported)
            assert await house.serial() == first
            write(pem(NAME))
            house.process.send_signal(signal.SIGHUP)

            async def is_new() -> bool:
                return await house.serial() != first

            await until(is_new)

    asyncio.run(scenario())


def test_a_wrong_file_stops_the_start() -> None:
    """Files that cannot be served with: exit 78, with the listener, the file and what is wrong."""

    async def scenario() -> None:
        house = Secured({"cert": "/nonexistent/cert.pem", "key": "/nonexistent/key.pem"})
        try:
            await house.__aenter__()
        except AssertionError as error:
            text = str(error)
        else:
            raise AssertionError("it started")
        finally:
            await house.__aexit__(None, None, None)
        assert "ended with 78" in text
        assert "listen[1].tls.cert: /nonexistent/cert.pem cannot be read" in text

    asyncio.run(scenario())
