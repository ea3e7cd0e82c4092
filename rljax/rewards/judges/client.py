"""One chat completion of an OpenAI-compatible address, with the standard library alone.

The scoring processes ask, each one request at a time: config.scoring.workers is how many are asked
at once. What was answered once is kept in the cache and not asked again.
"""

import hashlib
import json
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Seconds before the second attempt; twice as long before each further one.
FIRST_WAIT = 0.5
# Answers that a later attempt may change.
PASSING = frozenset({408, 409, 429, *range(500, 600)})
# Characters of an answer that an error shows.
SHOWN = 200


class JudgeError(ValueError):
    """A judge that cannot be reached, or whose answer says nothing."""


class Judge(NamedTuple):
    """Where a judge is, and how it is asked.

    Attributes:
        address: "http://host:port/v1"; "/chat/completions" is added.
        model: its name there.
        max_tokens: of an answer; more than 1 for a judge that reasons before it gives a score.
        timeout_seconds: of an attempt.
        retries: further attempts where nobody answers, or the server is busy or broken.
        cache: folder of answers; "": none.
        account: file to which tokens and costs of each answer are added; "": none.
        input_price: of a million tokens that it reads.
        output_price: of a million tokens that it writes.
        key_variable: environment variable that holds the key; "": no key is sent.
    """

    address: str
    model: str
    max_tokens: int = 1
    timeout_seconds: float = 20.0
    retries: int = 2
    cache: str = ""
    account: str = ""
    input_price: float = 0.0
    output_price: float = 0.0
    key_variable: str = ""

    @property
    def longest_seconds(self) -> float:
        """How long a request may take, with all of its attempts."""
        waits = sum(FIRST_WAIT * 2**attempt for attempt in range(self.retries))
        return self.timeout_seconds * (self.retries + 1) + waits


def ask(judge: Judge, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The first choice of a chat completion, greedy and with log-probabilities.

    Args:
        judge: where it is.
        messages: roles and contents.

    Returns:
        The API's choice: "message" and, where the server gives them, "logprobs".

    Raises:
        JudgeError: if nobody answers, or what is answered is no chat completion.
    """
    request = {
        "model": judge.model,
        "messages": list(messages),
        "max_tokens": judge.max_tokens,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 20,
    }
    place = _place(judge, request)
    if place is not None and place.exists():
        answer, cached = json.loads(place.read_text()), True
    else:
        answer, cached = _posted(judge, request), False
    try:
        choice = answer["choices"][0]
        if not isinstance(choice["message"]["content"], str):
            raise TypeError
    except (KeyError, IndexError, TypeError):
        raise JudgeError(
            f"The judge at {judge.address} answered {json.dumps(answer)[:SHOWN]}, which is no chat "
            "completion."
        ) from None
    if place is not None and not cached:
        _keep(place, answer)
    if judge.account:
        _charge(judge, answer.get("usage") or {}, cached)
    return choice


def _posted(judge: Judge, request: Mapping[str, Any]) -> Any:
    """The answer of the server, after as many attempts as it takes."""
    headers = {"Content-Type": "application/json"}
    if judge.key_variable:
        key = os.environ.get(judge.key_variable)
        if not key:
            raise JudgeError(
                f"The environment variable {judge.key_variable!r} holds no key for the judge at "
                f"{judge.address} (options.key_variable)."
            )
        headers["Authorization"] = f"Bearer {key}"
    posted = urllib.request.Request(
        f"{judge.address.rstrip('/')}/chat/completions", json.dumps(request).encode(), headers
    )
    for attempt in range(judge.retries + 1):
        if attempt:
            time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
        try:
            with urllib.request.urlopen(posted, timeout=judge.timeout_seconds) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError as error:
            said = f"status {error.code}, {error.read()[:SHOWN].decode(errors='replace')!r}"
            if error.code not in PASSING:
                raise JudgeError(f"The judge at {judge.address} refuses: {said}.") from None
        except ValueError as error:
            raise JudgeError(
                f"The judge at {judge.address} does not answer in JSON: {error}."
            ) from None
        except OSError as error:  # also what urllib and time-outs raise
            said = str(getattr(error, "reason", error)) or type(error).__name__
    raise JudgeError(
        f"The judge at {judge.address} cannot be reached in {judge.retries + 1} attempts of "
        f"{judge.timeout_seconds:g} s: {said} (options.address)."
    )


def _place(judge: Judge, request: Mapping[str, Any]) -> Path | None:
    """Where the answer to a request lies in the cache."""
    if not judge.cache:
        return None
    asked = json.dumps([judge.address, request], sort_keys=True)
    name = hashlib.sha256(asked.encode()).hexdigest()
    return Path(judge.cache) / name[:2] / f"{name}.json"


def _keep(place: Path, answer: Any) -> None:
    """Writes a file of the cache whole: other processes read it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_suffix(f".{secrets.token_hex(8)}")  # hosts may share the folder, and ids
    beside.write_text(json.dumps(answer))
    beside.replace(place)


def _charge(judge: Judge, usage: Mapping[str, Any], cached: bool) -> None:
    """Adds a line to the account; lines of several processes do not mix."""
    read, written = (int(usage.get(f"{name}_tokens") or 0) for name in ("prompt", "completion"))
    cost = 0.0 if cached else (read * judge.input_price + written * judge.output_price) / 1e6
    line = {
        "model": judge.model,
        "input_tokens": read,
        "output_tokens": written,
        "cached": cached,
        "cost": cost,
    }
    with open(judge.account, "ab", buffering=0) as file:
        file.write(f"{json.dumps(line)}\n".encode())
