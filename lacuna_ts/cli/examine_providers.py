"""Whether the providers can be reached: names, TCP and TLS. No request is sent, so no key leaves and nothing costs."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from lacuna_ts.cli.finding import Finding, ok, problem, warning
from lacuna_ts.upstream.session import is_forbidden

if TYPE_CHECKING:
    from lacuna_ts.config.settings import Provider, Settings

_AT_ONCE: Final = 16
_PATIENCE_S: Final = 10.0


async def examine_providers(settings: Settings) -> list[Finding]:
    """A finding for each provider of the file, in its order."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def examine(provider: Provider) -> Finding:
        if provider.disabled:
            why = provider.disabled_because or "the file says so"
            return warning(f"provider:{provider.id}", f"disabled: {why}", "mend it, or take it out of the file")
        async with turn:
            return await _reach(provider)

    return list(await asyncio.gather(*map(examine, settings.providers.values())))


async def _reach(provider: Provider) -> Finding:
    check = f"provider:{provider.id}"
    parts = urlsplit(provider.baseurl)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    where = f"{host}:{port}"
    context = ssl.create_default_context() if is_tls else None
    try:
        async with asyncio.timeout(min(provider.timeouts.connect_s, _PATIENCE_S)):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)
            addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
            if any(map(is_forbidden, addresses)):
                fix = "such addresses are never dialled; write the provider's own address into `baseurl`"
                return problem(check, f"{host} leads to a link-local or metadata address", fix)
            await _shake_hands(addresses, port, context, host)
    except ssl.SSLCertVerificationError as error:
        fix = "put the authority that signed it into the system's store, or name its file in SSL_CERT_FILE"
        return problem(check, f"the certificate of {where} is not trusted: {error.verify_message}", fix)
    except ssl.SSLError as error:
        fix = "`baseurl` may need http:// instead of https://, or another port"
        return problem(check, f"{where} does not speak TLS as we do: {error.reason or error}", fix)
    except TimeoutError:
        fix = "look at the route and the firewall of this node, or raise the provider's `timeouts.connect_s`"
        return problem(check, f"{where} did not answer in time", fix)
    except OSError as error:
        fix = "look at `baseurl`, and at this node's DNS, route and firewall"
        return problem(check, f"{where} cannot be reached: {error.strerror or error}", fix)
    except UnicodeError:
        return problem(check, f"{host} is no name of a host", "mend `baseurl`")
    return ok(check, f"{where} answers" + (" with a trusted certificate" if is_tls else ""))


async def _shake_hands(addresses: list[str], port: int, context: ssl.SSLContext | None, host: str) -> None:
    """Connect to the first address that answers, and hang up. Raises OSError or ssl.SSLError of the last."""
    for index, address in enumerate(addresses):
        try:
            _, writer = await asyncio.open_connection(
                address, port, ssl=context, server_hostname=None if context is None else host
            )
        except ssl.SSLError:
            raise
        except OSError:
            if index == len(addresses) - 1:
                raise
            continue
        writer.transport.abort()
        return
