"""A stand-in tailscaled: the LocalAPI on a unix socket, over a tailnet that a script can change while it runs.

It answers as the real one does (statuses, headers, framing, permissions by peer credentials, Host and Origin checks,
the bus before and after 1.100), and misbehaves as the real one may: it hangs, restarts, falls behind, talks nonsense.
It forwards no packets: that a connection comes from a node, `map_connection` says.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lacuna_ts.standin.localapi_server import LocalApiServer, Reply
from lacuna_ts.standin.nodes import NEVER, StandInNode
from lacuna_ts.tailnet.abilities import abilities_of
from lacuna_ts.tailnet.notify import STATES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PROXYMAP_WAITS_S: Final = (0.0, 0.01, 0.02, 0.05, 0.1)
_SAID_WITH_NULL: Final = (
    "ErrMessage", "LoginFinished", "State", "Prefs", "NetMap", "Engine", "BrowseToURL", "DriveShares",
)  # fmt: skip


class _Watcher(NamedTuple):
    mask: int
    queue: asyncio.Queue[bytes | None]


def _json(value: object) -> bytes:
    return json.dumps(value, indent="\t").encode() + b"\n"


class StandInTailscaled(LocalApiServer):
    """`async with StandInTailscaled(path) as tailscaled:` listens at `path` until the end.

    Without nodes but its own, which belongs to `owner` or carries `tags`. All the `set_` and `add_` methods work before
    and while it runs, and announce on the bus what this version would announce.
    """

    def __init__(
        self,
        socket_path: str | Path,
        *,
        version: str = "1.102.3",
        tun: bool = True,
        name: str = "ai",
        suffix: str = "tail0123.ts.net",
        addresses: Sequence[str] = ("100.64.0.1", "fd7a:115c:a1e0::1"),
        owner: str = "owner@example.com",
        tags: Sequence[str] = (),
    ) -> None:
        super().__init__(socket_path, version)
        self.tun = tun
        self.suffix = suffix
        self.state = "Running"
        self.cert_domains: list[str] = [f"{name}.{suffix}"]
        self.certificates: dict[str, bytes] = {}  # domain -> key PEM followed by chain PEM
        self.cert_uids: set[int] = {0}  # who may have certificates
        self.services: dict[str, list[str]] = {}
        self.serve_config: dict[str, Any] | None = None
        self.health: list[str] = []
        self.net_map_bytes = 0  # how large the net map is on the bus of old versions
        self.loopback_node: StandInNode | None = None  # whom unmapped loopback connections belong to (demonstrations)
        self._nodes: dict[str, StandInNode] = {}  # by address
        self._mapped: dict[int, StandInNode] = {}
        self._watchers: list[_Watcher] = []
        self._last_id = 0
        self._users: dict[str, int] = {}
        self.own = self.add_node(*addresses, login=owner, name=name, tags=tags)

    # --- life --------------------------------------------------------------------------------------------------

    async def restart(self) -> None:
        """Stop and start: what it knew of the tailnet stays, connections and mappings do not."""
        await self.stop()
        self._mapped.clear()
        await self.start()

    # --- the tailnet -------------------------------------------------------------------------------------------

    def add_node(
        self, *addresses: str, login: str = "", name: str = "", tags: Sequence[str] = (), **facts: Any
    ) -> StandInNode:
        """Add a node of a person (`login`) or a tagged one. `facts` are further fields of StandInNode."""
        self._last_id += 1
        number = self._last_id
        user_id = self._users.setdefault(login, 1000 + len(self._users))
        made: dict[str, Any] = {
            "id": number,
            "stable_id": f"n{number:05d}CNTRL",
            "name": name or f"node-{number}",
            "suffix": self.suffix,
            "user_id": user_id,
        }
        node = StandInNode(**(made | {"login": login, "tags": tuple(tags), "addresses": tuple(addresses)} | facts))
        for address in addresses:
            self._nodes[address] = node
        self._announce_peer(node)
        return node

    def change(self, node: StandInNode, **facts: Any) -> None:
        """Change fields of a node: retag, rename, expire, share."""
        for name, value in facts.items():
            setattr(node, name, value)
        if facts.keys() <= {"login", "display_name", "groups"}:
            self._announce({"UserProfiles": {str(node.user_id): node.profile_json(with_groups=True)}})
        else:
            self._announce_peer(node)

    def set_caps(self, node: StandInNode, caps: Mapping[str, Sequence[Any] | None]) -> None:
        """Change what a node is granted. From 1.100 on nothing is announced."""
        node.caps = caps
        if not self._is_narrow:
            self._announce({})

    def revoke(self, node: StandInNode) -> None:
        """Take all that a node is granted away."""
        self.set_caps(node, {})

    def forget(self, node: StandInNode) -> None:
        """Remove a node from the tailnet."""
        self._nodes = {address: other for address, other in self._nodes.items() if other is not node}
        self._mapped = {port: other for port, other in self._mapped.items() if other is not node}
        self._announce({"PeersRemoved": [node.id]})

    def move(self, node: StandInNode, *addresses: str) -> None:
        """Give a node other addresses; they may have been another node's before."""
        self._nodes = {address: other for address, other in self._nodes.items() if other is not node}
        node.addresses = addresses
        self._nodes |= dict.fromkeys(addresses, node)
        self._announce_peer(node)

    def map_connection(self, port: int, node: StandInNode | None) -> None:
        """Userspace mode: say that the connection from 127.0.0.1:`port` is one that `node` made (None: no more)."""
        if node is None:
            self._mapped.pop(port, None)
        else:
            self._mapped[port] = node

    def add_service(self, name: str, *addresses: str) -> None:
        """Host the Tailscale Service `svc:NAME`."""
        self.services[name] = list(addresses)
        self._announce_peer(self.own)

    def set_state(self, state: str) -> None:
        """Change the state of the backend, by its name in status."""
        self.state = state
        self._announce({"State": STATES.index(state)})

    def set_health(self, *problems: str) -> None:
        """Change the health warnings."""
        self.health = list(problems)
        self._announce({"Health": {"Warnings": {str(n): {"Text": text} for n, text in enumerate(problems)}}})

    # --- the bus -----------------------------------------------------------------------------

    def send_on_bus(self, line: bytes) -> None:
        """Send any bytes and a newline to everybody who watches."""
        for watcher in self._watchers:
            watcher.queue.put_nowait(line + b"\n")

    def end_bus(self, message: str = "watcher fell behind") -> None:
        """End every watch as for one that reads too slowly."""
        self._announce({"ErrMessage": message}, is_wide=False)
        for watcher in self._watchers:
            watcher.queue.put_nowait(None)

    @property
    def watchers(self) -> int:
        """How many watch the bus."""
        return len(self._watchers)

    @property
    def _is_narrow(self) -> bool:
        return abilities_of(self.version).whois_destination

    def _announce_peer(self, node: StandInNode) -> None:
        if self._last_id == 1 or node is self.own:
            self._announce({"SelfChange": node.node_json()})
        else:
            self._announce({"PeersChanged": [node.node_json()]})

    def _announce(self, fields: dict[str, Any], *, is_wide: bool = True) -> None:
        if not self._is_narrow and is_wide and "State" not in fields:
            fields = {"NetMap": {"Padding": "x" * self.net_map_bytes}}  # before 1.100, every change was all of it
        self.send_on_bus(self._notice(fields))

    def _notice(self, fields: Mapping[str, Any]) -> bytes:
        """A message. Of what is not in it, the real one says some things with null and others not at all."""
        silent = dict.fromkeys(_SAID_WITH_NULL)
        return json.dumps({"Version": self.version, **silent, **fields}, separators=(",", ":")).encode()

    async def _watch(self, params: Mapping[str, str], writer: asyncio.StreamWriter) -> None:
        watcher = _Watcher(int(params.get("mask", "0")), asyncio.Queue())
        self._watchers.append(watcher)
        try:
            writer.write(self._head(200, "application/json", b"Transfer-Encoding: chunked\r\n"))
            if watcher.mask & 2:
                first = {"SessionID": "69867da05740ea70", "State": STATES.index(self.state)}
                watcher.queue.put_nowait(self._notice(first) + b"\n")
            while (line := await watcher.queue.get()) is not None:
                writer.write(b"%x\r\n%b\r\n" % (len(line), line))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        finally:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

    def _bad_mask(self, params: Mapping[str, str], uid: int) -> Reply | None:
        mask, release = params.get("mask", "0"), abilities_of(self.version).release
        if not mask.isdecimal() or int(mask) & 65536:
            return Reply(400, b"bad mask\n")
        if release >= (1, 102) and int(mask) & 256 and int(mask) & 0xF000:
            return Reply(400, b"rate limiting does not go with deltas\n")
        if (1, 54) <= release < (1, 92) and uid != 0 and not int(mask) & 16:
            return Reply(403, b"watch IPN bus access denied\n")
        return None

    async def _reply(self, endpoint: str, params: Mapping[str, str], uid: int) -> Reply | None:
        if endpoint == "watch-ipn-bus":
            return self._bad_mask(params, uid)
        match endpoint.partition("/"):
            case "whois", "", "":
                return await self._whois(params)
            case "status", "", "":
                peers = {} if params.get("peers") == "false" else {"Peer": self._peers_json()}
                return Reply(200, _json(self.status_json() | peers), "application/json")
            case "serve-config", "", "":
                return Reply(200, json.dumps(self.serve_config, separators=(",", ":")).encode(), "application/json")
            case "cert", "/", domain:
                if uid not in self.cert_uids:
                    return Reply(403, b"cert access denied\n")
                pair = self.certificates.get(domain)
                return Reply(200, pair) if pair else Reply(500, b"invalid domain; must be one of the cert domains\n")
            case _:
                return Reply(404, b"404 page not found\n")

    def _forget_watchers(self) -> None:
        self._watchers.clear()

    # --- answers -----------------------------------------------------------------------------------------------

    def status_json(self) -> dict[str, Any]:
        """The answer to `status?peers=false`."""
        own = self.own
        dns_name = f"{own.name}.{self.suffix}."
        profile = own.profile_json(with_groups=False)
        node = {
            "ID": own.stable_id,
            "DNSName": dns_name,
            "HostName": own.name,
            "UserID": profile["ID"],
            "TailscaleIPs": list(own.addresses),
            "Online": self.state == "Running",
            "CapMap": {"service-host": [self.services]} if self.services else {},
        }
        if own.is_expired:
            node["Expired"] = True
        if own.tags:
            node["Tags"] = list(own.tags)
        if own.key_expiry != NEVER:
            node["KeyExpiry"] = own.key_expiry
        has_net_map = self.state in {"Running", "Stopped", "Starting"}
        return {
            "Version": self.version,
            "TUN": self.tun,
            "BackendState": self.state,
            "HaveNodeKey": True,
            "AuthURL": "",
            "TailscaleIPs": list(own.addresses) if has_net_map else None,
            "Self": node,
            "Health": self.health,
            "MagicDNSSuffix": self.suffix,
            "CurrentTailnet": {"Name": "example.com", "MagicDNSSuffix": self.suffix, "MagicDNSEnabled": True},
            "CertDomains": self.cert_domains or None,
            "Peer": None,
            "User": {str(profile["ID"]): profile},
        }

    def _peers_json(self) -> dict[str, Any]:
        peers = {node.id: node for node in self._nodes.values() if node is not self.own}
        return {
            f"nodekey:{node.id:064x}": {
                "ID": node.stable_id,
                "HostName": node.name,
                "DNSName": f"{node.name}.{node.suffix}.",
                "TailscaleIPs": list(node.addresses),
                "UserID": node.user_id,
            }
            for node in peers.values()
        }

    async def _whois(self, params: Mapping[str, str]) -> Reply:
        asked = params.get("addr", "")
        if not asked:
            return Reply(400, b"missing 'addr' parameter\n")
        abilities = abilities_of(self.version)
        host, port = _split(asked)
        if host is None:
            return Reply(400, b"invalid 'addr' parameter\n")
        node = self._nodes.get(host)
        if node is None and port:
            waits = _PROXYMAP_WAITS_S if params.get("proto") else _PROXYMAP_WAITS_S * 2
            for wait_s in waits:
                await asyncio.sleep(wait_s)
                node = self._mapped.get(port) or self.loopback_node
                if node is not None:
                    break
        if node is None or self.state in {"NoState", "NeedsLogin"}:
            return Reply(404, b"no match for IP:port\n")
        service = params.get("svc_name", "") if abilities.whois_destination else ""
        if service and not service.startswith("svc:"):
            return Reply(400, b"invalid svc_name\n")
        own_ip = params.get("dst_ip", "") if abilities.whois_destination else ""
        answer = {
            "Node": node.node_json(),
            "UserProfile": node.profile_json(with_groups=abilities.groups),
            "CapMap": node.caps_json(service=service, own_ip=own_ip, ignores_unsigned=abilities.release >= (1, 102)),
        }
        return Reply(200, _json(answer), "application/json")


def _split(asked: str) -> tuple[str | None, int]:
    """Split `IP`, `IP:port` or `[v6]:port`; (None, 0) for anything else."""
    host, port = asked, "0"
    if asked.startswith("["):
        host, _, port = asked[1:].partition("]:")
    elif asked.count(":") == 1:
        host, _, port = asked.partition(":")
    try:
        return str(ipaddress.ip_address(host)), int(port)
    except ValueError:
        return None, 0
