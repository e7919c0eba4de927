"""OpenAI's pictures, sound and moderations, and rankings, through the real SDK: right bytes, models and numbers."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import openai
import pytest
from fakes.house import KEY, House
from fakes.readings import tokens

from lacuna_ts.standin.provider_media import PICTURE, SOUND, form_of

ALICE = "100.64.0.7"
PROVIDER = {
    "baseurl": "PROVIDER_URL",
    "authorization": {"type": "bearer", "apikey": KEY},
    "compatibility": {"openai_chat": True, "rerank": True},
    "capability": {
        "models": {"img": {}, "ear": {"rewrite": "whisper-1"}, "voice": {}, "judge": {}, "rank": {}, "no": {}}
    },
}
GRANT = {"models": {name: {} for name in ("img", "ear", "voice", "judge", "rank")}}
NO_FORMS = [
    "multipart/form-data", "multipart/mixed; boundary=a", "multipart/form-data; boundary=a; boundary=b", "text/plain",
]  # fmt: skip
MP3 = b"\xff\xfb\x90--\r\n\r\n" + bytes(range(256)) * 300


def use(client: openai.OpenAI) -> dict[str, Any]:
    """What the SDK is told about everything, in the order in which it asks."""

    def file() -> Any:
        return ("talk.mp3", io.BytesIO(MP3), "audio/mpeg")

    told: dict[str, Any] = {}
    told["picture"] = client.images.generate(model="img", prompt="a red lighthouse")
    told["pictures"] = list(client.images.generate(model="img", prompt="two words", stream=True, partial_images=1))
    told["edit"] = client.images.edit(model="img", prompt="more light", image=("a.png", io.BytesIO(PICTURE)))
    told["speech"] = client.audio.speech.create(model="voice", voice="alloy", input="say this").content
    with client.audio.speech.with_streaming_response.create(model="voice", voice="alloy", input="x y") as answer:
        told["streamed speech"] = b"".join(answer.iter_bytes())
    told["text"] = client.audio.transcriptions.create(model="ear", file=file())
    told["texts"] = list(client.audio.transcriptions.create(model="ear", file=file(), stream=True))
    told["srt"] = client.audio.transcriptions.create(model="ear", file=file(), response_format="srt")
    told["translation"] = client.audio.translations.create(model="ear", file=file())
    told["judgement"] = client.moderations.create(model="judge", input="is this fine?")
    told["ranking"] = client.post(
        "/rerank", body={"model": "rank", "query": "which one", "documents": ["a b", "c"]}, cast_to=dict[str, Any]
    )
    refused = []
    for ask in (
        lambda: client.audio.transcriptions.create(model="no", file=file()),
        lambda: client.images.generate(model="no", prompt="x"),
        lambda: client.images.generate(model="img", prompt="x", extra_body={"api_base": "http://x"}),
    ):
        try:
            ask()
        except openai.APIStatusError as error:
            refused.append((type(error).__name__, error.status_code))
    told["refused"] = refused
    return told


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK about its translations
def test_media() -> None:
    """Everything arrives as it is, counts what is told, and what may not be asked is refused in one attempt."""

    async def scenario() -> None:
        async with House({"providers": {"openai": PROVIDER}}) as house:
            house.tailscaled.loopback_node = house.person(ALICE, "alice@example.com", GRANT)

            def used() -> dict[str, Any]:
                with openai.OpenAI(base_url=f"{house.url}/v1", api_key="-") as client:
                    return use(client)

            told = await asyncio.to_thread(used)
            assert base64.b64decode(told["picture"].data[0].b64_json) == PICTURE
            assert [event.type for event in told["pictures"]] == [
                "image_generation.partial_image", "image_generation.completed",
            ]  # fmt: skip
            assert base64.b64decode(told["edit"].data[0].b64_json) == PICTURE
            assert told["speech"] == told["streamed speech"] == SOUND
            assert told["text"].text == told["translation"].text == told["srt"] == "a stand-in said this"
            assert told["texts"][-1].type == "transcript.text.done"
            assert told["judgement"].results[0].flagged is False
            assert [one["index"] for one in told["ranking"]["results"]] == [0, 1]
            assert told["refused"] == [
                ("PermissionDeniedError", 403), ("PermissionDeniedError", 403), ("BadRequestError", 400),
            ]  # fmt: skip

            # what went up: one model in each form, the one that was judged and rewritten, and every byte of the file
            seen = house.provider.requests
            assert len(seen) == 11
            assert {one.key for one in seen} == {KEY}
            heard = [dict(form_of(one)) for one in seen if "audio/tr" in one.path]
            assert [one["model"] for one in heard] == [b"whisper-1"] * 4
            assert {one["file"] for one in heard} == {MP3}
            assert dict(form_of(next(one for one in seen if one.path == "/v1/images/edits")))["image"] == PICTURE

            # what was counted
            lines = await house.closed(14)
            assert [one["refusal"] for one in lines[-3:]] == ["model_not_granted", "model_not_granted", "bad_request"]
            assert await tokens(house, ALICE, "img") == {"input": 3 + 2 + 2, "output": 300}
            assert await tokens(house, ALICE, "ear") == {"input": 3 * 14, "output": 3 * 4}
            assert await tokens(house, ALICE, "rank") == {"input": 5}

            # what a form may not be
            wrong = [(header, "unsupported_media_type") for header in NO_FORMS]
            for header, error in [*wrong, ("multipart/form-data; boundary=abc", "bad_request")]:
                body = b'--a\r\nContent-Disposition: form-data; name="model"\r\n\r\near\r\n--a--\r\n'
                for path in ("/v1/audio/transcriptions", "/v1/images/edits"):
                    answer = await house.ask(ALICE, "POST", path, headers={"Content-Type": header}, body=body)
                    assert answer.error == error, (header, answer.body)
            form = {"Content-Type": "multipart/form-data; boundary=a"}
            for path in ("/v1/chat/completions", "/v1/images/generations", "/v1/audio/speech", "/v1/moderations"):
                answer = await house.ask(ALICE, "POST", path, headers=form, body=body)
                assert answer.error == "unsupported_media_type"
            answer = await house.ask(ALICE, "POST", "/v1/audio/transcriptions", headers=form, body=body)
            assert answer.status == 200
            assert len(seen) == 12

    asyncio.run(scenario())
