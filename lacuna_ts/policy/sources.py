"""`src` of local grants, groups and blocks: which callers one entry means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.terms import Caller

_Kind = Literal["everybody", "login", "domain", "tags", "group", "node", "member", "tagged", "shared", "self"]
_FIXED: Final[Mapping[str, _Kind]] = {
    "*": "everybody",
    "autogroup:member": "member",
    "autogroup:tagged": "tagged",
    "autogroup:shared": "shared",
    "self": "self",
}
_FORMS: Final = (
    "`*`, a login, `*@domain`, `tag:a` or `tag:a,tag:b`, `group:NAME`, `node:NAME`, `autogroup:member`, "
    "`autogroup:tagged`, `autogroup:shared` or `self`"
)


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of a `src` list. Made by `parse`."""

    text: str
    kind: _Kind
    names: tuple[str, ...] = ()  # what the kind needs: the login, the domain, the tags, the group, the node

    @staticmethod
    def parse(text: str) -> Source:
        """Read an entry. Raises ValueError, saying which forms there are."""
        if text in _FIXED:
            return Source(text, _FIXED[text])
        prefix, colon, name = text.partition(":")
        if colon and prefix in {"tag", "group", "node"}:
            return _named(text, prefix, name)
        if not text or text != text.strip() or not text.isprintable() or any(c in text for c in " ,*:/()"):
            domain = text[2:]
            if text.startswith("*@") and domain and domain.isprintable() and not any(c in domain for c in " ,*:/()@"):
                return Source(text, "domain", (domain.casefold(),))
            raise ValueError(f"{text!r} is not a source; write {_FORMS}")
        return Source(text, "login", (text.casefold(),))

    def matches(self, caller: Caller, groups: Mapping[str, tuple[Source, ...]]) -> bool:
        """Whether a grant to this source is one to `caller`. `groups` are the file's own, by their full name.

        Guests are admitted by `autogroup:shared` and nothing else, the gateway's own node by `self` and nothing else:
        neither is what people mean by "everybody", a login or a tag of their tailnet.
        """
        if caller.is_shared_in:
            return self._reaches("shared", groups, frozenset())
        if caller.is_self:
            return self._reaches("self", groups, frozenset())
        return self.describes(caller, groups)

    def describes(self, caller: Caller, groups: Mapping[str, tuple[Source, ...]]) -> bool:
        """Whether the words fit `caller`, guest or not. For blocks: there, meaning more people is the safe side."""
        return self._describes(caller, groups, frozenset())

    def _reaches(self, kind: _Kind, groups: Mapping[str, tuple[Source, ...]], seen: frozenset[str]) -> bool:
        if self.kind == kind:
            return True
        if self.kind != "group" or self.text in seen:
            return False
        return any(member._reaches(kind, groups, seen | {self.text}) for member in groups.get(self.text, ()))  # noqa: SLF001

    def _describes(self, caller: Caller, groups: Mapping[str, tuple[Source, ...]], seen: frozenset[str]) -> bool:
        match self.kind:
            case "everybody":
                return True
            case "login":
                return not caller.is_tagged and caller.login.casefold() == self.names[0]
            case "domain":
                return not caller.is_tagged and _domain(caller.login) == self.names[0]
            case "tags":
                return set(self.names) <= set(caller.node.tags)
            case "group":
                return self._has_member(caller, groups, seen)
            case "node":
                return self.names[0] == caller.node.stable_id or self.names[0].casefold() == caller.node.name.casefold()
            case "member":
                return not caller.is_tagged and not caller.is_shared_in
            case "tagged":
                return caller.is_tagged
            case "shared":
                return caller.is_shared_in
            case "self":
                return caller.is_self

    def _has_member(self, caller: Caller, groups: Mapping[str, tuple[Source, ...]], seen: frozenset[str]) -> bool:
        if self.text in seen:  # groups may name each other
            return False
        # WhoIs names a group of the tailnet policy with its prefix and a SCIM group without.
        if not caller.is_tagged and (self.text in caller.groups or self.names[0] in caller.groups):
            return True
        return any(member._describes(caller, groups, seen | {self.text}) for member in groups.get(self.text, ()))  # noqa: SLF001


def _named(text: str, prefix: str, name: str) -> Source:
    if prefix == "tag":
        tags = tuple(text.split(","))
        if not all(tag.startswith("tag:") and tag[4:] and tag.isprintable() and " " not in tag for tag in tags):
            raise ValueError(f"{text!r} is not a source; several tags are written `tag:a,tag:b`, without spaces")
        return Source(text, "tags", tags)
    if not name or name != name.strip() or not name.isprintable():
        raise ValueError(f"{text!r} is not a source; a {prefix} is written `{prefix}:NAME`")
    return Source(text, "group" if prefix == "group" else "node", (name,))


def _domain(login: str) -> str | None:
    """The domain of a login that has exactly one `@` with something before it, else None."""
    name, _, domain = login.casefold().partition("@")
    return domain if name and domain and "@" not in domain else None
