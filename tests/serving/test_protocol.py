"""Bodies of requests: what each field becomes, and what is refused by name."""

import pytest

from rljax.serving.limits import Limits
from rljax.serving.protocol import BadRequest, Model, make_ask, read_chat, read_completion

MODEL = Model("tiny", 264, (2, 4), Limits(slots=8, context=64, samples=16))
HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}


def completion(**fields):
    return read_completion({"model": "tiny", "prompt": [5, 6], **fields}, MODEL)


def chat(**fields):
    return read_chat({"model": "tiny", "messages": HELLO, **fields}, MODEL)


def test_the_fields_of_a_completion_become_those_of_the_worker():
    body = completion(
        n=2,
        max_tokens=7,
        min_tokens=3,
        temperature=0.5,
        top_p=0.9,
        top_k=-1,
        min_p=0.1,
        presence_penalty=1,
        frequency_penalty=-1,
        logit_bias={"7": 2},
        stop="end",
        stop_token_ids=[9],
        logprobs=2,
        seed=11,
        user="nobody",
        best_of=2,
    )
    ask = make_ask(MODEL, body.common, body.prompts[0], seed=11, prompt_id=1)
    assert (ask.prompt, ask.n, ask.most, ask.least) == ((5, 6), 2, 7, 3)
    assert (ask.temperature, ask.top_p, ask.top_k, ask.min_p) == (0.5, 0.9, 0, 0.1)
    assert (ask.presence, ask.frequency, ask.logit_bias) == (1.0, -1.0, ((7, 2.0),))
    assert (ask.stop, ask.ends, ask.tops) == (("end",), (2, 4, 9), 2)
    assert (ask.seed, ask.prompt_id) == (11, 1)


def test_defaults_are_those_of_openai():
    body = completion()
    assert (body.common.n, body.common.max_tokens, body.common.tops) == (1, 16, None)
    assert body.common.others["temperature"] == 1.0 and body.common.others["ends"] == (2, 4)
    assert chat().common.max_tokens is None  # what the context leaves
    assert make_ask(MODEL, chat().common, [5] * 10, seed=0).most == 54
    assert chat(max_tokens=3, max_completion_tokens=5).common.max_tokens == 5
    assert completion(ignore_eos=True).common.others["ends"] == ()


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([5, 6], ((5, 6),)),
        ([[5], [6, 7]], ((5,), (6, 7))),
    ],
)
def test_prompts_are_texts_or_ids(prompt, expected):
    assert completion(prompt=prompt).prompts == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": None}, "prompt is missing"),
        ({"prompt": []}, "a text, a list of ids"),
        ({"prompt": ["a", 5]}, "a text, a list of ids"),
        ({"prompt": [264]}, r"the id 264, which is outside of the vocabulary 0..263 \(prompt\)"),
        ({"max_tokens": 0}, r"whole number in 1\.\."),
        ({"max_tokens": 3.5}, "max_tokens must be a whole number"),
        ({"n": 17}, r"n must be a whole number in 1\.\.16, got 17 \(n\)"),
        ({"n": True}, "n must be a whole number"),
        ({"temperature": -1}, r"temperature must be a number in 0\.\.100"),
        ({"temperature": "hot"}, "temperature must be a number"),
        ({"top_p": 0}, "top_p must be a number > 0 and <= 1"),
        ({"min_p": 1}, "min_p must be a number >= 0 and < 1"),
        ({"presence_penalty": 3}, r"presence_penalty must be a number in -2\.\.2"),
        ({"logit_bias": {"x": 1}}, "logit_bias must be up to 300 pairs of an id"),
        ({"logit_bias": {"264": 1}}, r"an id in 0\.\.263"),
        ({"stop": [""]}, "stop must be a text or up to 16 texts"),
        ({"stop": ["\ud800"]}, "stop must be"),
        ({"stop_token_ids": [264]}, r"stop_token_ids must be at most 30 ids in 0\.\.263"),
        ({"seed": 2**31}, r"seed must be a whole number in 0\.\.2147483647"),
        ({"logprobs": 21}, r"logprobs must be a whole number in 0\.\.20"),
        ({"best_of": 3}, r"best_of must be 1: every sample is returned \(n\)"),
        ({"suffix": "x"}, "a suffix cannot be written"),
        ({"echo": True, "stream": True}, "echo is not streamed"),
        ({"tempreature": 1}, "Unknown field 'tempreature'.*Did you mean 'temperature'"),
        ({"continued": 1}, "What is continued has the seed that it began with"),
        ({"continued": 2, "seed": 1}, "continued=2 counts the last ids of a prompt of more ids"),
        ({"continued": 1, "seed": 1, "prompt": "a"}, "counts the last ids"),
        ({"episode": ""}, "episode must be a text of 1 to 256 letters"),
        ({"episode": "e", "n": 2}, "A turn of an episode is one sample"),
        ({"episode": "e", "prompt": [[5], [6]]}, "An episode has one prompt at a time"),
        ({"on_rewrite": "x"}, "on_rewrite must be 'refuse' or 'segment'"),
        ({"stream": 1}, "stream must be true or false"),
    ],
)
def test_completions_that_cannot_be_answered_are_refused(fields, message):
    with pytest.raises(BadRequest, match=message) as caught:
        completion(**fields)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": []}, "messages must be a list, not empty"),
        ({"messages": None}, "messages is missing"),
        ({"top_logprobs": 2}, "top_logprobs needs logprobs: true"),
        ({"tools": [{"name": "add"}]}, "tools must be a list of"),
        ({"tool_choice": "required"}, "tool_choice must be 'auto' or 'none'"),
        ({"response_format": {"type": "json_object"}}, "no grammar constrains"),
        ({"functions": []}, "functions must be absent: it is not supported"),
        ({"chat_template_kwargs": {"tools": []}}, "tools are a field of their own"),
        ({"echo": True}, "Unknown field 'echo'"),
    ],
)
def test_chats_that_cannot_be_answered_are_refused(fields, message):
    with pytest.raises(BadRequest, match=message):
        chat(**fields)


def test_a_body_is_an_object_and_the_model_is_this_one():
    with pytest.raises(BadRequest, match=r"must be a JSON object, got \[1\]"):
        read_chat([1], MODEL)
    with pytest.raises(BadRequest, match="this server has 'tiny'") as caught:
        chat(model="gpt")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    assert chat(model=None).common.n == 1


def test_a_row_fits_into_the_context():
    body = completion(max_tokens=60)
    make_ask(MODEL, body.common, [5] * 4, seed=0)
    with pytest.raises(BadRequest, match="has 5 tokens, and 60 may be written: at most 64"):
        make_ask(MODEL, body.common, [5] * 5, seed=0)
    with pytest.raises(BadRequest, match="at most 64 fit") as caught:
        make_ask(MODEL, chat().common, [5] * 64, seed=0)
    assert (caught.value.param, caught.value.code) == ("prompt", "context_length_exceeded")
    with pytest.raises(BadRequest, match="min_tokens=9 is more than max_tokens=2"):
        make_ask(MODEL, completion(min_tokens=9, max_tokens=2).common, [5], seed=0)
    echoed = completion(echo=True, logprobs=1, max_tokens=0)
    ask = make_ask(MODEL, echoed.common, [5] * 64, seed=0, scored=True)
    assert (ask.n, ask.scored) == (0, True)
    with pytest.raises(BadRequest):  # nothing is asked for
        make_ask(MODEL, completion(echo=True, max_tokens=0).common, [5], seed=0)


def test_tools_are_shown_unless_none_shall_be_called():
    assert chat(tools=[TOOL]).tools == [TOOL]
    assert chat(tools=[TOOL], tool_choice="none").tools is None
    assert chat(tools=[]).tools is None
