"""A caller's own credential goes up only to a provider with `passthrough`: one header, once, and nothing beside it."""

from __future__ import annotations

import pytest

from lacuna_ts.upstream.provider import UpstreamProvider, authorizer_for

OWN = "sk-own-5f1c0ffee"
CARRIERS = [
    "Proxy-Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "X-Goog-User-Project", "Cookie",
    "OpenAI-Organization", "ChatGPT-Account-Id", "X-Amz-Security-Token", "X-Auth-Token", "X-Authorization",
    "CF-AIG-Authorization", "X_Api_Key", "DPoP", "Tailscale-User-Login", "X-Forwarded-For",
]  # fmt: skip


class Ours:
    """Our key."""

    def reveal(self) -> str:
        return "sk-ours-000000"


def sent_up(talk, sent, *, dialect="openai_chat", ours=True, passes_own=True):
    """What the provider sees of `sent`, and whether its answers are about our key."""

    async def story(t):
        authorizer = authorizer_for("bearer" if ours else None, Ours())
        t.wire = UpstreamProvider(t.provider.url, authorizer, passes_own=passes_own, forward_headers=("*",))
        made = t.wire.request(
            "POST",
            "/v1/chat/completions",
            query="key=other",
            sent=iter(sent),
            forwarded=(),
            body=b"{}",
            dialect=dialect,
        )
        response = await t.upstream.send(made)
        await response.read(1 << 20)
        response.release()
        return t.provider.requests[0], made.authorizer.key

    return talk(story)


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        ("openai_chat", "authorization"), ("openai_responses", "authorization"), ("ollama_chat", "authorization"),
        ("anthropic_messages", "x-api-key"), ("anthropic_messages", "authorization"),
        ("gemini_generate_content", "x-goog-api-key"), ("azure_openai", "api-key"),
    ],
)  # fmt: skip
def test_the_dialects_own_header_goes_up(talk, dialect, name):
    """It goes up as it was sent, alone, and what the provider says about it is for the caller."""
    value = f"Bearer {OWN}" if name == "authorization" else OWN
    others = [(carrier, f"other-{i}") for i, carrier in enumerate(CARRIERS) if carrier.lower() != name]
    if dialect == "anthropic_messages" and name == "authorization":
        others = [pair for pair in others if pair[0] != "X-Api-Key"]
    seen, key = sent_up(talk, [*others, (name.title(), value)], dialect=dialect)
    assert seen.header(name) == value
    assert seen.raw_head.count(OWN.encode()) == 1
    assert b"other" not in seen.raw_head
    assert b"sk-ours" not in seen.raw_head
    assert key is None


@pytest.mark.parametrize("name", CARRIERS)
def test_every_other_credential_stays(talk, name):
    """Whatever else carries a credential stays here, and our key is sent instead."""
    seen, key = sent_up(talk, [(name, OWN)])
    assert OWN.encode() not in seen.raw_head
    assert seen.key == "sk-ours-000000"
    assert key is not None


@pytest.mark.parametrize(
    "value",
    ["", "-", "Bearer -", "bearer not-needed", "Bearer not-required", "Bearer ", "Bearer", "Digest a=b",
     "AWS4-HMAC-SHA256 Credential=AKIA", "Bearer a\x00b", "Bearer caf\u00e9", "Bearer " + "a" * 20_000],
)  # fmt: skip
def test_words_that_are_no_credential_are_not_sent(talk, value):
    """What clients send where no key is needed, and what nobody could use there, counts as nothing sent."""
    seen, _ = sent_up(talk, [("Authorization", value)])
    assert seen.header("authorization") == "Bearer sk-ours-000000"
    seen, key = sent_up(talk, [("Authorization", value)], ours=False)
    assert seen.header("authorization") is None
    assert key is None


def test_two_of_a_kind_are_none(talk):
    """Of two credentials in one header nobody can say which was meant."""
    seen, _ = sent_up(talk, [("Authorization", f"Bearer {OWN}"), ("authorization", "Bearer b")])
    assert seen.header("authorization") == "Bearer sk-ours-000000"


def test_nothing_goes_up_without_the_setting(talk):
    """For every other provider ours is the only credential."""
    seen, key = sent_up(talk, [("Authorization", f"Bearer {OWN}")], passes_own=False)
    assert seen.header("authorization") == "Bearer sk-ours-000000"
    assert key is not None
