"""The self-test of `doctor`: requests that claim to be somebody, sent to each listener of the running daemon.

Each is compared with the same request without the claim. What the gateway says of its caller must stay the same, or the
request be refused as malformed. The addresses that are claimed are known to tailscaled, so believing one would show:
another caller, other rights, or a refusal that only a recognised caller gets.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.cli.finding import Finding, ok, problem, skipped
from lacuna_ts.tailnet.addresses import host_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Line = tuple[str, str]

_PATIENCE_S: Final = 5.0
_PATH: Final = "/api/whoami"
_MALFORMED: Final = frozenset({"bad_request", "unknown_peer"})  # what a claim may turn an answer into
_LOOKED_AT: Final = ("login", "user_id", "is_self", "node", "tags", "roles", "labels", "grants")
_LOGIN_HEADERS: Final = (
    "Tailscale-User-Login", "Tailscale_User_Login", "X-Tailscale-User", "X-Webauth-User", "X-Webauth-Email",
    "Remote-User", "X-Remote-User", "X-Forwarded-User", "X-Forwarded-Email", "X-Auth-Request-User",
    "X-Auth-Request-Email", "X-Goog-Authenticated-User-Email", "CF-Access-Authenticated-User-Email", "X-Lacuna-User",
)  # fmt: skip
_ADDRESS_HEADERS: Final = (
    "X-Forwarded-For", "x_forwarded_for", "X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP",
    "X-Cluster-Client-IP", "X-Original-Forwarded-For", "X-Envoy-External-Address",
)  # fmt: skip
_CAPABILITY_HEADERS: Final = ("Tailscale-App-Capabilities", "Tailscale-App-Capability")
_FIX: Final = (
    "stop the gateway (sudo systemctl stop lacuna-ts), and see what listens there: nothing may stand between it "
    "and the tailnet but `tailscale serve` on its own socket. If it is lacuna-ts itself, please report it"
)


@dataclass(frozen=True, slots=True)
class Claims:
    """Whom the requests claim to be. `addresses` are ones that tailscaled knows, the node's own among them."""

    login: str
    addresses: Sequence[str]
    prefix: str  # of capabilities

    def forgeries(self) -> Iterator[Line]:
        """Every forged header line, one for each request."""
        for name in _LOGIN_HEADERS:
            yield name, self.login
        for name in _ADDRESS_HEADERS:
            for address in self.addresses:
                yield name, address
        for address in self.addresses:
            yield "Forwarded", f'for="{host_text(address)}"'
        caps = {f"{self.prefix}/grants": [{}], f"{self.prefix}/role": [{"role": "admin"}]}
        for name in _CAPABILITY_HEADERS:
            yield name, msgspec.json.encode(caps).decode()
        yield "Authorization", "Basic " + base64.b64encode(f"{self.login}:".encode()).decode()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the gateway answered: who it took the caller for, or why it refused."""

    status: int
    code: str
    who: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        if self.who is not None:
            return f"served as {self.who.get('login') or 'a tagged node'}"
        return f"refused with {self.code or self.status}"


async def examine_listeners(
    listeners: Sequence[Mapping[str, Any]], claims: Claims, tailscaled_uid: int | None
) -> list[Finding]:
    """A finding for each listener that the daemon says it has."""
    found = []
    for one in listeners:
        name = str(one["serve"]) if "serve" in one else f"{host_text(one['address'])}:{one['port']}"
        try:
            found.append(await _examine(one, name, claims, tailscaled_uid))
        except PermissionError:
            found.append(ok("forged_headers", f"{name} is closed to this user, as it should be"))
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            why = str(error) or type(error).__name__
            fix = "see how the daemon is: lacuna-ts health; then ask again"
            found.append(problem("forged_headers", f"{name} gave no answer that can be read: {why}", fix))
    return found


async def _examine(listener: Mapping[str, Any], name: str, claims: Claims, tailscaled_uid: int | None) -> Finding:
    honest: list[list[Line]] = [[]]
    forgeries = list(claims.forgeries())
    if "serve" in listener and os.geteuid() == tailscaled_uid:
        # We look like tailscaled there, and it is believed when it says who is calling: so that alone is no forgery.
        own = claims.addresses[-1]
        honest.append([("X-Forwarded-For", own)])
    sent, taken_for = 0, []
    line = _Connection(listener)
    try:
        for base in honest:
            expected = await line.ask(base)
            if expected.status >= 500:
                fix = "see how the daemon is: lacuna-ts health; then ask again"
                return skipped("forged_headers", f"{name} recognises nobody now: {expected}", fix)
            taken_for.append(str(expected))
            for forged in forgeries:
                if len(honest) > 1 and not base and forged[0].lower() == "x-forwarded-for":
                    continue
                answer = await line.ask([*base, forged])
                sent += 1
                if not _is_fine(answer, expected) and not _is_fine(
                    await line.ask([*base, forged]), await line.ask(base)
                ):
                    message = f"{name} believed a forged {forged[0]}: {expected} without it, {answer} with it"
                    return problem("forged_headers", message, _FIX)
    finally:
        line.close()
    return ok("forged_headers", f"{name} believed none of {sent} forged headers ({' and '.join(taken_for)})")


def _is_fine(answer: Verdict, expected: Verdict) -> bool:
    return answer == expected or (answer.who is None and answer.code in _MALFORMED)


class _Connection:
    """A keep-alive connection to one listener: in userspace mode each new one costs tailscaled a search."""

    def __init__(self, listener: Mapping[str, Any]) -> None:
        self._listener = listener
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, lines: Sequence[Line]) -> Verdict:
        """Send the question with these header lines. Raises OSError, ValueError, IncompleteReadError."""
        async with asyncio.timeout(_PATIENCE_S):
            if self._streams is None:
                self._streams = await self._open()
            reader, writer = self._streams
            head = [f"GET {_PATH} HTTP/1.1", f"Host: {self._host()}", "User-Agent: lacuna-ts-doctor"]
            head += [f"{name}: {value}" for name, value in lines]
            writer.write("\r\n".join([*head, "", ""]).encode())
            await writer.drain()
            return await self._answer(reader)

    async def _answer(self, reader: asyncio.StreamReader) -> Verdict:
        raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (one.partition(":") for one in raw[1:])}
        status = int(raw[0].split(" ")[1])
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body = b""
            self.close()
        if headers.get("connection", "").lower() == "close":
            self.close()
        code = headers.get("x-lacuna-error", "")
        if status != 200:
            return Verdict(status, code)
        document = msgspec.json.decode(body, type=dict[str, Any])
        return Verdict(status, code, {key: document.get(key) for key in _LOOKED_AT})

    def _host(self) -> str:
        if "serve" in self._listener:
            return "localhost"
        return f"{host_text(self._listener['address'])}:{self._listener['port']}"

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if "serve" in self._listener:
            return await asyncio.open_unix_connection(self._listener["serve"])
        context = None
        if self._listener.get("tls"):
            context = ssl.create_default_context()
            context.check_hostname = False  # this asks who the gateway takes us for, not who the gateway is
            context.verify_mode = ssl.CERT_NONE
        return await asyncio.open_connection(self._listener["address"], self._listener["port"], ssl=context)

    def close(self) -> None:
        """Hang up; the next question dials anew."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
