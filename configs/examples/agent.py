r"""An agent that plays its episodes by itself: it asks, looks at the answer, and asks again.

    python launch/train.py --config=configs/quickstart.py:smoke \
        --config.environment.agent=configs/examples/agent.py --config.environment.turns=3 \
        --config.tokenizer.chat_turn=$'{role}: {content}\n' \
        --config.tokenizer.chat_generation_prompt='assistant: ' \
        --config.data.max_prompt_tokens=64 --config.scoring.rewards="({'name': 'environment'},)"

It knows an address and a key (rljax/environments/README.md), and speaks to the run's own server as
it would to any other one. OpenAI's client does the same:

    client = openai.OpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key)
    client.chat.completions.create(model=endpoint.model, messages=messages)
"""

import json
import urllib.error
import urllib.request
from typing import Any

# The server is in the run's own process: no proxy stands between.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def play(record: dict[str, Any], endpoint: Any, tries: int = 3, again: str = "Wrong.") -> float:
    """Plays one episode of a problem; returns its reward: 1 for the right answer at the first try.

    Args:
        record: the problem.
        endpoint: base_url, api_key and model of the run's server.
        tries: answers at most.
        again: what a wrong answer is told.
    """
    messages = [{"role": "user", "content": record["prompt"]}]
    for number in range(tries):
        try:
            choice = ask(endpoint, messages)
        except urllib.error.HTTPError as error:
            if json.load(error)["error"]["code"] != "context_length_exceeded":
                raise
            return 0.0  # the conversation has no more room
        if choice["message"]["content"].strip() == str(record["reference"]):
            return 1.0 / (1 + number)
        if choice["finish_reason"] == "length":
            return 0.0
        messages += [choice["message"], {"role": "user", "content": again}]
    return 0.0


def ask(endpoint: Any, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The model's answer to a conversation."""
    request = urllib.request.Request(
        f"{endpoint.base_url}/chat/completions",
        json.dumps({"model": endpoint.model, "messages": messages}).encode(),
        {"authorization": f"Bearer {endpoint.api_key}", "content-type": "application/json"},
    )
    with OPENER.open(request) as answer:
        return json.load(answer)["choices"][0]
