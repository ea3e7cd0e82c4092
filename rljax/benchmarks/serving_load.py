"""Clients of a server, in a process of their own: `python -m rljax.benchmarks.serving_load`.

Standard input has {"url": ..., "bodies": [...], "at_a_time": n} as JSON. So many clients send the
bodies to /v1/completions, each the next one as soon as it has been answered. Standard output gets
{"seconds": ..., "requests": [{"seconds", "first", "tokens"}]}: of all together, of each request,
and of its first token where it is streamed. It knows nothing but the standard library.
"""

import asyncio
import json
import sys
import time
import urllib.parse
from typing import Any


async def ask(host: str, port: int, body: dict[str, Any]) -> dict[str, Any]:
    """One request: seconds until its end and its first token, and tokens that came."""
    started, first, tokens = time.perf_counter(), None, 0
    reader, writer = await asyncio.open_connection(host, port, limit=2**24)
    data = json.dumps(body).encode()
    # Of HTTP/1.0 an answer ends with its connection, so nothing need be taken apart.
    head = f"POST /v1/completions HTTP/1.0\r\nhost: {host}\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    status = await reader.readline()
    if status.split()[1] != b"200":
        raise RuntimeError(f"{status.decode().strip()}: {(await reader.read()).decode()}")
    while (await reader.readline()).strip():
        pass
    if body.get("stream"):
        async for line in reader:
            if line.startswith(b"data: {"):
                first = first or time.perf_counter() - started
                answer = json.loads(line[6:])
                tokens += sum(len(choice["token_ids"]) for choice in answer["choices"])
    else:
        tokens = json.loads(await reader.read())["usage"]["completion_tokens"]
    writer.close()
    return {"seconds": time.perf_counter() - started, "first": first, "tokens": tokens}


async def ask_all(url: str, bodies: list[dict[str, Any]], at_a_time: int) -> dict[str, Any]:
    """All requests, `at_a_time` of them at a time."""
    place = urllib.parse.urlsplit(url)
    waiting, found = iter(bodies), []

    async def client() -> None:
        for body in waiting:
            found.append(await ask(place.hostname, place.port, body))

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(at_a_time)))
    return {"seconds": time.perf_counter() - started, "requests": found}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask_all(**json.load(sys.stdin)))))
