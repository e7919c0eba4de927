"""Sends large prompts, each with a picture in it, one after the other with a pause between them.

`python prompt_load.py HOST:PORT BYTES COUNT PAUSE_S` prints one JSON line. With a COUNT of 0 it goes on until its input
ends.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time


def main(address: str, size: int, count: int, pause_s: float) -> None:
    """Ask, and say how long it took in the middle."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0K" * (size // 8)}}
    parts = [{"type": "text", "text": "What is on it?"}, picture]
    question = {"model": "bench", "messages": [{"role": "user", "content": parts}]}
    body = json.dumps(question).encode()  # with spaces between the members, as Python's SDKs write it
    headers = {"content-type": "application/json", "user-agent": "OpenAI/Python 2.1.0"}
    connection = http.client.HTTPConnection(address, timeout=30)
    took, failed = [], 0
    while len(took) < count or not count:
        began = time.monotonic()
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        response.read()
        failed += response.status != 200
        took.append(time.monotonic() - began)
        if select.select([sys.stdin], [], [], pause_s)[0] and not count:
            break
    print(json.dumps({"requests": len(took), "failed": failed, "p50_us": sorted(took)[len(took) // 2] * 1e6}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
