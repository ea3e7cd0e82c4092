import itertools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.data.tokenizers import ByteTokenizer
from rljax.sampling.stop_strings import stop_string_automaton

AB = [b"a", b"b"]


@jax.jit
def finished(automaton, tokens):
    """[N, T] tokens -> [N, T] bool, whether the row has ended with this token or before."""

    def step(state, column):
        state = automaton.advance(state, column)
        return state, automaton.finished(state)

    return jax.lax.scan(step, automaton.start(len(tokens)), tokens.T)[1].T


def searched(strings, texts):
    """[N] lists of T texts, growing -> [N, T] bool, by plain search after every token."""
    return np.array([[any(s in text for s in strings) for text in row] for row in texts])


def growing_texts(tokens, token_bytes):
    """The text after each token, broken characters as U+FFFD."""
    joined = [itertools.accumulate((token_bytes[t] for t in row), initial=b"") for row in tokens]
    return [[text.decode(errors="replace") for text in row][1:] for row in joined]


def test_every_pair_of_strings_in_every_text_of_two_letters():
    words = ["".join(w) for n in (1, 2, 3) for w in itertools.product("ab", repeat=n)]
    tokens = np.array(list(itertools.product((0, 1), repeat=8)))
    texts = growing_texts(tokens, AB)
    for strings in [[w] for w in words] + list(itertools.combinations(words, 2)):
        got = finished(stop_string_automaton(strings, AB), tokens)
        np.testing.assert_array_equal(got, searched(strings, texts), err_msg=str(strings))


@pytest.mark.parametrize(
    "alphabet, strings",
    [
        ("ab", ["aab"]),
        ("ab", ["abab", "babb", "aa"]),
        ("ab", ["abaab", "aab", "abaabb", "baaa"]),  # one within another, at its end, before it
        ("a€é", ["€", "éa€", "aé"]),
        ("\n é€😀", ["\n\n", "😀é", "€ €", "€ € "]),
        ("<>/ax", ["</a>", "<a>", "</", "x>x>x"]),
    ],
)
def test_random_texts_of_random_tokens(alphabet, strings):
    draw = random.Random(f"{alphabet} {strings}")
    pieces = ["".join(draw.choices(alphabet, k=6)).encode() for _ in range(12)]
    pieces += [s.encode() + b"a" for s in strings]
    # Cut anywhere: tokens begin and end within characters; single bytes and no text, too.
    cut = [piece[draw.randrange(2) : draw.randrange(2, len(piece) + 1)] for piece in pieces]
    token_bytes = [bytes([value]) for value in sorted({*alphabet.encode()})] + cut + [b""]
    tokens = np.random.default_rng(1).integers(0, len(token_bytes), (1500, 12))
    # Half of the rows are well-formed for most of their length: whole strings byte by byte.
    single = {piece[0]: place for place, piece in enumerate(token_bytes) if len(piece) == 1}
    for row in tokens[::2]:
        data = "".join(draw.choices([*alphabet, *strings], k=6)).encode()[:10]
        row[: len(data)] = [single[value] for value in data]
    expected = searched(strings, growing_texts(tokens, token_bytes))
    assert 0.05 < expected[:, -1].mean() and not expected[:, 0].all()
    got = finished(stop_string_automaton(strings, token_bytes), tokens)
    np.testing.assert_array_equal(got, expected)


def test_the_byte_tokenizer_with_tags():
    tokenizer = ByteTokenizer(("<answer>", "</answer>"))
    strings = ["r>\n", "é<", "</ans"]
    draw = random.Random(0)
    rows = [tokenizer.encode("".join(draw.choices("é<r>\n", k=9)))[:12] for _ in range(800)]
    rows = np.array([row + [256] * (12 - len(row)) for row in rows])
    rows[np.random.default_rng(0).random(rows.shape) < 0.1] = 260
    texts = [[tokenizer.decode(row[: end + 1]) for end in range(12)] for row in rows]
    got = finished(stop_string_automaton(strings, tokenizer.token_bytes()), rows)
    expected = searched(strings, texts)
    np.testing.assert_array_equal(got, expected)
    assert 0.1 < expected[:, -1].mean() < 0.95


def test_states_by_hand():
    automaton = stop_string_automaton(["aab"], [b"a", b"b", b"c", b"", b"aaab", b"xaabc"])
    # States: nothing, "a", "aa", ended.
    expected = [[1, 0, 0, 0, 3, 3], [2, 0, 0, 1, 3, 3], [2, 3, 0, 2, 3, 3], [3] * 6]
    np.testing.assert_array_equal(automaton.transitions, expected)
    assert automaton.transitions.dtype == jnp.int8
    assert automaton.allowed(automaton.start(1)) is None
    np.testing.assert_array_equal(automaton.finished(jnp.arange(4)), [0, 0, 0, 1])
    np.testing.assert_array_equal(automaton.start(2), [0, 0])


def test_shared_beginnings_are_shared_and_longer_strings_cost_nothing():
    token_bytes = ByteTokenizer().token_bytes()
    short = stop_string_automaton(["</a>", "</b>"], token_bytes)
    assert short.transitions.shape == (6, 259)  # "", "<", "</", "</a", "</b", ended
    longer = stop_string_automaton(["</a>", "x</b>yz", "</b>", "</a>"], token_bytes)
    np.testing.assert_array_equal(longer.transitions, short.transitions)


def test_ids_without_text_leave_the_state():
    tokenizer = ByteTokenizer()
    automaton = stop_string_automaton(["</s>"], tokenizer.token_bytes(), vocab_size=300)
    assert automaton.transitions.shape == (5, 300)
    for token in (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, 259, 299):
        np.testing.assert_array_equal(automaton.transitions[:, token], np.arange(5))


def test_rows_of_groups_by_vmap():
    automaton = stop_string_automaton(["abb", "ba"], AB)
    tokens = np.random.default_rng(0).integers(0, 2, (3, 4, 6))
    groups = jax.jit(jax.vmap(finished, in_axes=(None, 0)))(automaton, tokens)
    rows = finished(automaton, tokens.reshape(12, 6))
    np.testing.assert_array_equal(groups.reshape(12, 6), rows)
    assert 0 < rows.mean() < 1


def test_strings_of_one_shape_share_a_program():
    traces = []

    @jax.jit
    def count(automaton, tokens):
        traces.append(1)
        return finished(automaton, tokens).sum()

    tokens = np.array([[0, 0, 1, 1]])
    counts = [int(count(stop_string_automaton([s], AB), tokens)) for s in ("aa", "ab", "bb", "ba")]
    assert counts == [3, 2, 1, 0] and len(traces) == 1


@pytest.mark.parametrize(
    "strings, token_bytes, unspelled",
    [
        (["ab", "bb"], [b"a", b"ab"], "bb"),
        (["ab", "bab"], [b"a", b"ab"], None),  # the second is never the first to be found
        (["b", "a"], [b"ab"], None),  # nor is "b" here, yet it can be spelled
        (["ba"], [b"ab"], None),
        (["€"], [b"\xe2", b"\x82"], "€"),
        (["€"], [b"\xe2", b"\x82", b"x\xac"], "€"),
        (["€"], [b"\x82\xac", b"a"], "€"),  # an end that nothing begins
        (["x€y"], [b"\xac\xe2\x82", b"\xacy", b"xx\xe2", b"\x82"], None),
        ([" hello wor"], [b" hello", b" world"], None),
        (["helloworld"], [b" hello", b" world"], "helloworld"),
        (["x"], [], "x"),
    ],
)
def test_strings_that_no_tokens_spell(strings, token_bytes, unspelled):
    if unspelled is None:
        assert stop_string_automaton(strings, token_bytes).accepting.sum() == 1
        return
    with pytest.raises(ValueError, match=f"No sequence.*'{unspelled}'.*sampling.stop_strings"):
        stop_string_automaton(strings, token_bytes, vocab_size=4)


@pytest.mark.parametrize(
    "strings, message",
    [
        ([], r"at least one, got \[\].*config.<stage>.sampling.stop_strings"),
        ("ab", "must be a list.*got 'ab'"),
        (["a", ""], "non-empty string, got ''"),
        (["a", 7], "non-empty string, got 7"),
        ([b"a"], "non-empty string, got b'a'"),
        (["a\ufffd"], r"without U\+FFFD"),
        (["a\ud83d"], "valid UTF-8"),
    ],
)
def test_bad_strings(strings, message):
    with pytest.raises(ValueError, match=message):
        stop_string_automaton(strings, AB)


def test_fewer_logits_than_tokens():
    with pytest.raises(ValueError, match="at least the tokenizer's 2, got 1"):
        stop_string_automaton(["a"], AB, vocab_size=1)
