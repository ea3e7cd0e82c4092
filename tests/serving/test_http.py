"""The server over HTTP, with OpenAI's own client and without any."""

import concurrent.futures
import http.client
import json
import urllib.parse

import numpy as np
import pytest

from rljax.sampling.generate import Generator
from rljax.sampling.options import SamplingOptions
from tests.serving.conftest import listening

openai = pytest.importorskip("openai")
HELLO = [{"role": "user", "content": "hello"}]
# Fields of ours, as OpenAI's client sends them.
IDS = {"return_token_ids": True}


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def generator(parts, one_device) -> Generator:
    return Generator(
        parts.network,
        parts.params,
        parts.text_format.tokenizer,
        one_device,
        slots=8,
        stop_tokens=parts.text_format.ends,
    )


def posted(url: str, path: str, body: bytes | dict, key: str = "") -> tuple[int, dict]:
    """Status and answer of a request without any client."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=60)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    connection.request("POST", path, data, headers)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


# --- completions ---------------------------------------------------------------------------------


def test_completions_are_those_of_the_generator(client, generator):
    """Several prompts, texts and ids, n samples, a seed, a stop string, log-probabilities."""
    prompts = ["one", "and two"]
    options = SamplingOptions(n=2, max_new_tokens=12, temperature=0.8, stop=("a", "b"))
    expected = [c for each in generator.generate(prompts, options, seed=5) for c in each]
    found = client.completions.create(
        model="tiny",
        prompt=prompts,
        n=2,
        max_tokens=12,
        temperature=0.8,
        stop=["a", "b"],
        seed=5,
        logprobs=2,
        extra_body=IDS,
    )
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    for choice, completion in zip(found.choices, expected, strict=True):
        assert choice.text == completion.text
        assert tuple(choice.token_ids) == completion.tokens
        assert tuple(choice.prompt_token_ids) == completion.origin.prompt
        np.testing.assert_allclose(choice.sampled_logprobs, completion.logprobs, atol=2e-5)
        np.testing.assert_allclose(
            choice.logprobs.token_logprobs, completion.model_logprobs, atol=2e-5
        )
        assert choice.stop_reason == completion.stop_reason
        length = completion.stop_reason == "length"
        assert choice.finish_reason == ("length" if length else "stop")
        assert choice.weights_version == 3
        for token, tops in zip(choice.logprobs.tokens, choice.logprobs.top_logprobs, strict=True):
            assert token in tops and len(tops) in (2, 3)
    written = sum(len(completion.tokens) for completion in expected)
    read = sum(len(prompt) for prompt in prompts)
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (read, written)
    ids = [[5 + byte for byte in prompt.encode()] for prompt in prompts]
    again = client.completions.create(
        model="tiny", prompt=ids, n=2, max_tokens=12, temperature=0.8, stop=["a", "b"], seed=5
    )
    assert [choice.text for choice in again.choices] == [c.text for c in expected]
    assert again.choices[0].logprobs is None and again.seed == 5


@pytest.mark.parametrize("stop", [[], ["a", "e"]])
def test_a_stream_is_the_same_text_and_the_same_ids(client, stop):
    fields = dict(model="tiny", prompt="stream", n=3, max_tokens=21, seed=8, stop=stop)
    whole = client.completions.create(**fields, logprobs=1, extra_body=IDS)
    texts, ids, reasons, lines = ["", "", ""], [[], [], []], [None] * 3, 0
    offsets = [[], [], []]
    stream = client.completions.create(
        **fields, stream=True, logprobs=1, extra_body=IDS, stream_options={"include_usage": True}
    )
    for line in stream:
        if not line.choices:
            usage = line.usage
            continue
        (choice,) = line.choices
        texts[choice.index] += choice.text
        ids[choice.index] += choice.token_ids
        offsets[choice.index] += choice.logprobs.text_offset
        assert len(choice.logprobs.tokens) == len(choice.token_ids)
        reasons[choice.index], lines = choice.finish_reason, lines + 1
    assert texts == [choice.text for choice in whole.choices]
    assert offsets == [choice.logprobs.text_offset for choice in whole.choices]
    assert ids == [choice.token_ids for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert usage == whole.usage and lines > 3


def test_echo_scores_the_prompt(client):
    """As harnesses ask for log-likelihoods; nothing need be written."""
    written = client.completions.create(
        model="tiny",
        prompt="score",
        max_tokens=8,
        seed=1,
        logprobs=1,
        temperature=0,
        extra_body=IDS,
    ).choices[0]
    whole = written.prompt_token_ids + written.token_ids
    for tokens in (0, 1):
        scored = client.completions.create(
            model="tiny", prompt=whole, max_tokens=tokens, logprobs=1, echo=True, temperature=0
        ).choices[0]
        logprobs = scored.logprobs
        assert len(logprobs.tokens) == len(whole) + tokens
        assert logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None
        count = len(written.prompt_token_ids)
        np.testing.assert_allclose(
            logprobs.token_logprobs[count : len(whole)],
            written.logprobs.token_logprobs,
            atol=2e-5,
        )
        pairs = list(zip(logprobs.tokens, logprobs.top_logprobs, strict=True))
        greedy = [max(tops, key=tops.get) == token for token, tops in pairs[count : len(whole)]]
        assert greedy == [True] * 8
        assert scored.text.startswith("score" + written.text)


def test_answers_do_not_change_in_a_crowd(client):
    def ask(seed: int) -> tuple:
        found = client.completions.create(
            model="tiny", prompt=f"crowd {seed}", max_tokens=20, seed=seed, extra_body=IDS
        )
        return found.choices[0].token_ids, found.choices[0].sampled_logprobs

    alone = [ask(seed) for seed in range(20)]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert list(pool.map(ask, range(20))) == alone


# --- chats ---------------------------------------------------------------------------------------


def test_a_chat_goes_through_the_template(client, generator, parts):
    found = client.chat.completions.create(
        model="tiny",
        messages=HELLO,
        max_tokens=10,
        seed=3,
        logprobs=True,
        top_logprobs=2,
        extra_body=IDS,
    )
    (choice,) = found.choices
    prompt = parts.text_format.prompt(HELLO, where="").tokens
    assert choice.prompt_token_ids == prompt
    options = SamplingOptions(max_new_tokens=10)
    ((completion,),) = generator.generate([prompt], options, seed=3)
    assert choice.message.content == completion.text
    assert tuple(choice.token_ids) == completion.tokens
    for place, token in enumerate(choice.logprobs.content):
        assert token.logprob == pytest.approx(completion.model_logprobs[place], abs=2e-5)
        assert len(token.top_logprobs) == 2
        assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob
    stream = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=10, seed=3, stream=True
    )
    deltas = [line.choices[0].delta for line in stream]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == completion.text


def test_tool_calls_come_back_as_such(client, service, monkeypatch):
    """What the model writes is given, since an untrained one writes no JSON."""
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    monkeypatch.setattr(service.spelling, "text", lambda sample, stop: f"Adding.\n{call}")
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    fields = dict(model="tiny", messages=HELLO, tools=[tool], max_tokens=4, seed=0)
    (choice,) = client.chat.completions.create(**fields).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Adding.")
    (made,) = choice.message.tool_calls
    assert (made.function.name, json.loads(made.function.arguments)) == ("add", {"a": 1})
    *_, last = client.chat.completions.create(**fields, stream=True)
    assert last.choices[0].finish_reason == "tool_calls"
    assert last.choices[0].delta.tool_calls[0].function.name == "add"


# --- the rest ------------------------------------------------------------------------------------


def test_the_model_is_listed(client, url):
    (model,) = client.models.list().data
    assert (model.id, model.max_model_len, model.weights_version) == ("tiny", 192, 3)
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError, match="this server has 'tiny'"):
        client.models.retrieve("other")


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("completions", b"{", 400, "The body is no JSON"),
        ("completions", b"[" * 100000, 400, "The body is no JSON"),
        ("completions", b" " * (8 * 2**20 + 1), 413, "more than 8388608 bytes"),
        ("completions", {"model": "gpt", "prompt": "a"}, 404, "this server has 'tiny'"),
        ("completions", {"prompt": "a", "max_tokens": 192}, 400, "at most 192 fit"),
        ("completions", {"prompt": ["a"] * 9, "n": 2}, 400, "asks for 18 samples; at most 16"),
        ("completions", {"prompt": "", "max_tokens": 1}, 400, "the prompt is empty"),
        ("completions", {"prompt": "a", "x": 1}, 400, "Unknown field 'x'"),
        ("chat/completions", {"messages": [{"role": "user"}]}, 400, "lacks content"),
        ("chat/completions", {"messages": [3]}, 400, "must be {'role': ..., 'content': ...}"),
        ("nothing", {}, 404, "Not Found"),
        ("models", {}, 405, "Method Not Allowed"),
    ],
)
def test_bad_requests_get_an_error_that_clients_read(url, path, body, status, message):
    found, answer = posted(url, f"/v1/{path}", body)
    assert found == status
    assert message in answer["error"]["message"]


def test_keys_are_asked_for_where_there_are_some(service):
    with listening(service, api_keys=("one", "two")) as (url, _):
        body = {"prompt": "a", "max_tokens": 1}
        assert posted(url, "/v1/completions", body, "two")[0] == 200
        for key in ("", "three"):
            status, answer = posted(url, "/v1/completions", body, key)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        with openai.OpenAI(base_url=f"{url}/v1", api_key="one", max_retries=0) as client:
            assert client.models.list().data


def got(url: str, path: str, key: str = "") -> tuple[int, dict]:
    """Status and answer of a GET."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=60)
    connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def test_each_key_has_episodes_of_its_own(service):
    """Two keys play an episode of the same name; a listing has names and sizes of one key's."""
    with listening(service, api_keys=("one", "two")) as (url, _):

        def turn(key: str, name: str, prompt: list[int]) -> None:
            body = {"prompt": prompt, "max_tokens": 2, "episode": name, "ignore_eos": True}
            assert posted(url, "/v1/completions", body, key)[0] == 200

        for key, name, prompt in (
            ("one", "a", [5, 6]),
            ("two", "a", [7, 8, 9]),
            ("one", "b", [5]),
        ):
            turn(key, name, prompt)
        status, answer = got(url, "/v1/episodes", "one")
        sizes = {"segments": 1, "turns": 1, "sampled_tokens": 2, "busy": False}
        both = [{"episode": "a", "tokens": 4, **sizes}, {"episode": "b", "tokens": 3, **sizes}]
        assert (status, answer["data"], answer["has_more"]) == (200, both, False)
        assert (answer["kept"], answer["most"]) == (3, 4)
        first = got(url, "/v1/episodes?limit=1", "one")[1]
        assert (first["data"], first["has_more"]) == (both[:1], True)
        rest = got(url, "/v1/episodes?limit=1&after=a", "one")[1]
        assert (rest["data"], rest["has_more"]) == (both[1:], False)
        assert got(url, "/v1/episodes/a", "two")[1]["segments"][0]["ids"][:3] == [7, 8, 9]
        assert got(url, "/v1/episodes/b", "two")[0] == 404
        for query, expected in (("limit=0", 400), ("limit=x", 400), ("after=none", 404)):
            assert got(url, f"/v1/episodes?{query}", "one")[0] == expected
    service.episodes.end_all()


def test_a_client_that_leaves_frees_its_rows(client, service):
    stream = client.completions.create(
        model="tiny",
        prompt="long",
        n=8,
        max_tokens=150,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    next(iter(stream))
    stream.response.close()
    client.completions.create(model="tiny", prompt="a", max_tokens=1)
    assert service.worker.busy()["waiting"] == 0


def test_a_full_queue_says_so(client, service, monkeypatch):
    monkeypatch.setattr(type(service.worker._waiting), "__len__", lambda self: 10**6)
    with pytest.raises(openai.RateLimitError, match="may wait"):
        client.completions.create(model="tiny", prompt="a", stream=True)
