"""The generator: order, grouping, batches, stop strings in texts, continuation, bad input."""

import dataclasses

import jax
import numpy as np
import pytest

from rljax.data.tokenizers import ByteTokenizer
from rljax.sampling.batches import Prompt, make_requests, row_count
from rljax.sampling.choose import Penalties
from rljax.sampling.completion import PER_TOKEN, Completion
from rljax.sampling.distribution import EntropyTemperature
from rljax.sampling.engine import Engine
from rljax.sampling.generate import Generator
from rljax.sampling.options import SamplingOptions
from rljax.sampling.request import StopReason
from rljax.sampling.texts import Texts, stop_string_tail, without_tail

LETTERS = b"abcd"
EOS = 258
PROMPTS = ("one", "and two", "3", "four of them", "5")


def options_of(**fields) -> SamplingOptions:
    """Completions of the letters a to d, most of which reach their limit."""
    others = tuple(token for token in range(259) if token not in (*LETTERS, EOS))
    defaults = dict(n=2, max_new_tokens=10, forbidden_tokens=others, top_logprobs=2)
    return SamplingOptions(**{**defaults, **fields})


@pytest.fixture(scope="module")
def parts(tiny_network, one_device):
    network = tiny_network(vocab_size=259, layers=1)
    params = network.init(jax.random.key(1), one_device)
    return network, params


@pytest.fixture(scope="module")
def generator(parts, one_device) -> Generator:
    return Generator(*parts, ByteTokenizer(), one_device, slots=4, batch_prompts=4)


@pytest.fixture(scope="module")
def base(generator) -> list[list[Completion]]:
    """Completions of all prompts with the same options."""
    return generator.generate(PROMPTS, options_of())


def assert_same(found: Completion, expected: Completion) -> None:
    for name in ("text", "full_text", "tokens", "stop_reason"):
        assert getattr(found, name) == getattr(expected, name)
    for name in PER_TOKEN:
        one, other = getattr(found, name), getattr(expected, name)
        assert len(one) == len(found.tokens)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5, err_msg=name)


# --- order, batches, groups ----------------------------------------------------------------------


def test_completions_stand_in_the_order_of_prompts_and_samples(base):
    assert [len(completions) for completions in base] == [2] * 5
    for place, completions in enumerate(base):
        for number, each in enumerate(completions):
            origin = each.origin
            assert (origin.prompt_id, origin.sample_id) == (place, number)
            assert bytes(origin.prompt).decode() == PROMPTS[place]
            assert each.full_text == bytes(t for t in each.tokens if t != EOS).decode()
            assert each.stop_reason == ("stop_token" if EOS in each.tokens else "length")
            assert each.finished == (EOS in each.tokens)
            assert len(each.tokens) == 10 or each.tokens[-1] == EOS
    assert len({each.tokens for completions in base for each in completions}) > 7


def test_batches_do_not_change_completions(generator, base):
    """Streamed by twos, from ids, in another order, one alone, other samples beside it."""
    batches = list(generator.stream(PROMPTS, options_of(), batch_prompts=2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    streamed = [completions for batch in batches for completions in batch]
    order = [3, 0]
    ids = [list(PROMPTS[place].encode()) for place in order]
    some = generator.stream(ids, options_of(), ids=order, batch_prompts=2)
    later = generator.generate([PROMPTS[1]] * 2, options_of(first_sample=1), ids=[1, 7])
    for completions, expected in zip(streamed, base, strict=True):
        for one, other in zip(completions, expected, strict=True):
            assert_same(one, other)
    for place, completions in zip(order, next(some), strict=True):
        for one, other in zip(completions, base[place], strict=True):
            assert_same(one, other)
    assert_same(later[0][0], base[1][1])
    assert later[0][1].tokens not in (c.tokens for c in base[1])
    assert later[0][0].tokens != later[1][0].tokens


def test_requests_that_differ_are_answered_in_their_order(generator, base):
    """Temperature and lengths by row; other stop tokens in an engine of their own."""
    wanted = [
        options_of(max_new_tokens=3),
        options_of(stop_tokens=[LETTERS[0]]),
        options_of(temperature=0.0),
        options_of(stop_tokens=(LETTERS[0],), max_new_tokens=4),
    ]
    found = generator.generate(PROMPTS[:4], wanted)
    for place in (0, 1, 3):
        for short, long in zip(found[place], base[place], strict=True):
            ends = [EOS] if place == 0 else [EOS, LETTERS[0]]
            stops = [i + 1 for i, token in enumerate(long.tokens) if token in ends]
            length = min([*stops, wanted[place].max_new_tokens])
            assert short.tokens == long.tokens[:length]
            stopped = short.tokens[-1] in ends
            assert short.stop_reason == ("stop_token" if stopped else "length")
            assert short.text == bytes(short.tokens[: length - stopped]).decode()
    greedy, same = found[2]
    assert greedy.tokens == same.tokens
    assert (greedy.logprobs == 0).all() and (greedy.temperature == 0).all()
    allowed = np.isin(greedy.top_tokens[:, 0], [*LETTERS, EOS])  # else the likeliest may not come
    assert allowed.any()
    np.testing.assert_array_equal(greedy.top_tokens[allowed, 0], np.array(greedy.tokens)[allowed])


def test_a_seed_of_the_call_and_of_the_options(generator, base):
    of_call = generator.generate(PROMPTS[:4], options_of(), seed=5)
    of_options = generator.generate(PROMPTS[:4], [options_of(seed=5)] * 4, seed=7)
    for one, other, default in zip(of_call, of_options, base, strict=False):
        assert [c.tokens for c in one] == [c.tokens for c in other]
        assert [c.tokens for c in one] != [c.tokens for c in default]
        assert [c.origin.seed for c in (*one, *other)] == [5] * 4


def test_alternatives_are_those_of_the_raw_model(base):
    for completions in base:
        for each in completions:
            assert (each.top_logprobs[:, 0] >= each.top_logprobs[:, 1]).all()
            rows, places = np.nonzero(each.top_tokens == np.array(each.tokens)[:, None])
            np.testing.assert_allclose(
                each.model_logprobs[rows], each.top_logprobs[rows, places], atol=1e-5
            )
            # The distribution sampled from has five tokens, that of the model 259.
            assert (each.logprobs > each.model_logprobs).all()


# --- stop strings and continuation ---------------------------------------------------------------


def test_resumed_completions_equal_longer_ones(generator):
    """Stop strings over the seam, penalties, a least length, eos: all as in one go."""
    prompts, stop = ("one", "and two", "3", "5"), ("dbbd", "cdd")
    options = options_of(
        stop=stop,
        penalties=Penalties(presence=0.5, repetition=1.2),
        logit_bias={EOS: -0.5},
        min_new_tokens=6,
    )

    def flat(found):
        return [each for completions in found for each in completions]

    longer = dataclasses.replace(options, max_new_tokens=16)
    whole = flat(generator.generate(prompts, longer))
    first = flat(generator.generate(prompts, dataclasses.replace(options, max_new_tokens=6)))
    halfway = generator.resume(first, 2)
    found = generator.resume(halfway, 8)
    seams = 0
    for before, between, after, expected in zip(first, halfway, found, whole, strict=True):
        assert_same(after, expected)
        assert between.tokens == expected.tokens[: len(between.tokens)]
        assert (after is between) == between.finished
        assert (between is before) == before.finished
        check_ending(expected, stop)
        seam = len(expected.tokens) - 1 in (len(before.tokens), len(between.tokens))
        seams += expected.stop_reason == "stop_string" and seam
    assert {each.stop_reason for each in whole} == {"stop_string", "stop_token", "length"}
    assert seams  # a string that begins in one call and ends in the next
    assert {each.origin.options.max_new_tokens for each in found if not each.finished} == {16}


def check_ending(each: Completion, stop: tuple[str, ...]) -> None:
    """Letter by letter: a string that is completed before the sixth one begins anew."""
    start, found = 0, ""
    for end in range(1, len(each.full_text) + 1):
        found = next((s for s in stop if each.full_text[start:end].endswith(s)), "")
        if found and end < 6:
            start, found = end, ""
        assert not found or end == len(each.full_text)
    assert (each.stop_reason == "stop_string") == bool(found)
    assert each.text + found == each.full_text


def test_no_prompts_no_completions(generator):
    assert generator.generate([]) == [] and list(generator.stream([])) == []
    assert generator.resume([], 3) == []


def test_other_parameters_can_be_loaded(parts, one_device, base):
    network, params = parts
    own = Generator(network, jax.tree.map(lambda x: 0 * x, params), ByteTokenizer(), one_device)
    own.load(params)
    some = Generator(network, params, ByteTokenizer(), one_device)
    for one, other in zip(*(jax.tree.leaves(g._weights) for g in (own, some)), strict=True):
        np.testing.assert_array_equal(one, other)


# --- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tokens, strings, tail",
    [
        ([b"a", b"b\nc"], ["\n"], b"\nc"),
        ([b"a\n", b"\nc"], ["\n\n"], b"\n\nc"),  # over two tokens
        ([b"a", b"x", b"y"], ["xy", "y"], b"xy"),  # both end here
        ([b"abcd"], ["bcd", "c"], b"cd"),  # this one ends first
        ([b"aaa"], ["aa"], b"aaa"),  # the first of two
        ([b"a", b"\n", b"", b"b", b"\n"], ["\n"], b"\n"),  # the row was too short before
        ([b"ab", b"cd"], ["ab", "bc", "d"], b"d"),  # b was part of a string already
        ([b"\xc3", b"\xa9"], ["\u00e9"], b"\xc3\xa9"),
    ],
)
def test_the_tail_begins_with_the_string_that_ended_the_text(tokens, strings, tail):
    assert stop_string_tail(tokens, strings) == tail


def test_letters_are_counted_from_the_end():
    assert without_tail("a\nc", b"\nc") == "a"
    assert without_tail("\ufffd\u00e9!", "\u00e9!".encode()) == "\ufffd"
    assert without_tail("x\ufffd", b" x\xc3") == ""  # its first space was dropped


class WordTokenizer:
    """Words with the space before them, which the first one drops; id 3 is a tag, 4 eos."""

    pieces = [" a", " END", " b.END", "<tag>", ""]
    vocab_size, pad_id, bos_id, eos_id = 5, 4, None, 4

    def encode(self, text: str) -> list[int]:
        return [1] if text.strip() == "END" else [0] * len(text)

    def decode(self, ids) -> str:
        return "".join(self.pieces[id] for id in ids).removeprefix(" ")

    def token_bytes(self) -> list[bytes]:
        return [piece.encode() for piece in self.pieces]


def test_texts_of_tokens_that_are_words():
    texts = Texts(WordTokenizer(), vocab_size=8)
    stop = StopReason.STOP_STRING
    assert texts.of([0, 0, 1], stop, ["END"]) == ("a a ", "a a END")
    assert texts.of([1], stop, [" END"]) == ("", "END")
    assert texts.of([0, 2], stop, ["END"]) == ("a b.", "a b.END")
    assert texts.of([0, 3], StopReason.STOP_TOKEN, ()) == ("a", "a<tag>")
    assert texts.of([0, 7, 0], StopReason.LENGTH, ()) == ("a a", "a a")  # 7 is no token
    assert texts.automaton(("END",)).transitions.shape[1] == 8
    with pytest.raises(ValueError, match="cannot write the stop string ' b'"):
        texts.automaton((" b",))


# --- arrays of a call ----------------------------------------------------------------------------


def test_prompts_are_dealt_to_shards_and_fillers_are_short():
    options = SamplingOptions(n=2, max_new_tokens=9, temperature=0.5, min_new_tokens=4)
    prompts = [Prompt((7,) * (i + 1), options, 0, 10 + i, (3, 4)) for i in range(5)]
    requests, rows = make_requests(prompts, 8, shards=2)
    assert rows.tolist() == [0, 4, 1, 5, 2]
    assert requests.prompt_ids[rows].tolist() == [10, 11, 12, 13, 14]
    assert requests.prompt_mask.sum(axis=1)[rows].tolist() == [1, 2, 3, 4, 5]
    fillers = [3, 6, 7]
    assert (requests.prompt_mask[fillers].sum(axis=1) == 1).all()
    assert (requests.max_new_tokens[fillers] == 1).all()
    assert (requests.min_new_tokens[fillers] == 0).all() and requests.continued is None
    assert (requests.sample_ids[rows] == [3, 4]).all()
    assert (requests.temperature[rows] == 0.5).all() and (requests.min_new_tokens[rows] == 4).all()


def test_a_temperature_that_follows_the_entropy_is_not_one_of_rows():
    options = SamplingOptions(temperature=0.9, entropy_temperature=EntropyTemperature(theta=0.5))
    requests, _ = make_requests([Prompt((7,), options, 0, 0, (0,))], 1, shards=1)
    assert requests.temperature is None and requests.min_new_tokens is None
    assert options.static(1).token_filter == options.token_filter
    colder = dataclasses.replace(options, temperature=0.8)
    assert colder.static(1) != options.static(1)
    plain = dataclasses.replace(options, entropy_temperature=None)
    assert dataclasses.replace(plain, temperature=0.0).static(1) == plain.static(1)


@pytest.mark.parametrize(
    "prompts, most, shards, rows",
    [(1, 128, 1, 1), (5, 128, 1, 8), (5, 6, 1, 6), (1, 128, 8, 8), (9, 12, 8, 16), (3, 3, 1, 3)],
)
def test_rows_of_a_call(prompts, most, shards, rows):
    assert row_count(prompts, most, shards) == rows


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(n=0), r"n must be a whole number in 1\.\..*got 0 \(SamplingOptions\.n\)"),
        (dict(n=1.5), r"got 1\.5 \(SamplingOptions\.n\)"),
        (dict(max_new_tokens=0), r"\(SamplingOptions\.max_new_tokens\)"),
        (dict(max_new_tokens=3, min_new_tokens=4), "min_new_tokens=4 is more than max_new_tok"),
        (dict(top_p=1.5), r"top_p must be in \(0, 1\], got 1\.5 \(SamplingOptions\.top_p\)"),
        (dict(top_k=-1), r"\(SamplingOptions\.top_k\)"),
        (dict(min_p=1.0), r"\(SamplingOptions\.min_p\)"),
        (dict(temperature=-1.0), r"\(SamplingOptions\.temperature\)"),
        (dict(temperature=float("inf")), "temperature must be finite"),
        (dict(temperature=0.0, top_p=0.9), "Reset top_p=0.9"),
        (dict(logit_bias={5: float("nan")}), r"\(SamplingOptions\.logit_bias\)"),
        (dict(logit_bias={"5": 1.0}), r"got '5' \(SamplingOptions\.logit_bias\)"),
        (dict(forbidden_tokens=["x"]), r"got 'x' \(SamplingOptions\.forbidden_tokens\)"),
        (dict(seed=-1), r"\(SamplingOptions\.seed\)"),
        (dict(first_sample=2**31 - 1, n=2), r"\(SamplingOptions\.first_sample\)"),
    ],
)
def test_impossible_options(fields, message):
    with pytest.raises(ValueError, match=message):
        SamplingOptions(**fields)


def test_lists_and_dicts_are_options_too():
    one = SamplingOptions(stop="x", stop_tokens=[1], logit_bias={5: 2}, forbidden_tokens=range(2))
    other = SamplingOptions(
        stop=["x"], stop_tokens=(1,), logit_bias=[(5, 2.0)], forbidden_tokens=(0, 1)
    )
    assert one == other and hash(one) == hash(other)
    assert one.static(1) == dataclasses.replace(one, max_new_tokens=1, n=1)


@pytest.mark.parametrize(
    "prompts, fields, message",
    [
        ("text", {}, "must be a list, got the text 'text'"),
        (["a", ""], {}, "Prompt 1 is empty"),
        (["a", []], {}, "Prompt 1 is empty"),
        (["a" * 21], {}, r"Prompt 0 has 21 tokens; at most 20.*\(Generator\.max_prompt_tokens\)"),
        ([[5, 259]], {}, r"Prompt 0 holds 259: .* in 0\.\.258"),
        ([[5, 1.5]], {}, "Prompt 0 holds 1.5"),
        (["a"], dict(ids=[1, 2]), "There are 1 prompts, but 2 ids"),
        (["a"], dict(ids=[-1]), r"\(Generator\.ids\)"),
        (["a"], dict(options=[SamplingOptions()] * 2), "1 prompts, but 2 options"),
        (["a"], dict(seed=-1), r"\(Generator\.seed\)"),
        (["a"], dict(options=SamplingOptions(stop=[""])), r"non-empty.*\(SamplingOptions\.stop\)"),
        (["a"], dict(options=SamplingOptions(stop=["\ufffd"])), r"\(SamplingOptions\.stop\)"),
        (["a"], dict(options=SamplingOptions(stop_tokens=[259])), r"0\.\.258, got 259"),
        (
            ["a"],
            dict(options=SamplingOptions(top_logprobs=260)),
            r"\(SamplingOptions\.top_logp|260",
        ),
        (["a"], dict(options=SamplingOptions(forbidden_tokens=[300])), "names token 300"),
        (["a"], dict(options=SamplingOptions(n=2**24, max_new_tokens=2**20)), "GiB"),
    ],
)
@pytest.mark.parametrize("method", ["generate", "stream"])
def test_nothing_is_compiled_for_bad_input(
    parts, one_device, monkeypatch, prompts, fields, message, method
):
    monkeypatch.setattr(Engine, "sample", lambda *a, **k: pytest.fail("sampled"))
    own = Generator(*parts, ByteTokenizer(), one_device, slots=0, max_prompt_tokens=20)
    with pytest.raises(ValueError, match=message) as caught:
        getattr(own, method)(prompts, **fields)
    assert "config." not in str(caught.value)


def test_impossible_generators(parts, tiny_network, one_device):
    network, params = parts

    def make(network=network, tokenizer=None, **fields):
        return Generator(network, params, tokenizer or ByteTokenizer(), one_device, **fields)

    for fields, message in (
        (dict(network=tiny_network()), "The tokenizer has 259 tokens, the model 13"),
        (dict(network=tiny_network(causal=False)), "causal=False"),
        (dict(network=tiny_network(head="value")), "has a value head"),
        (dict(slots=-1), r"\(Generator\.slots\)"),
        (dict(cache="int4"), r"int4.*\(Generator\.cache\)"),
        (dict(weights="int4"), r"int4.*\(Generator\.weights\)"),
        (dict(batch_prompts=0), r"\(Generator\.batch_prompts\)"),
        (dict(stop_tokens=[999]), "got 999"),
        (dict(tokenizer=WordTokenizer(), add_bos=True), "no bos token"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**fields)
