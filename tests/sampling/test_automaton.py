import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.sampling.automaton import (
    TokenAutomaton,
    allowed_tokens_automaton,
    phrase_automaton,
)

# State 0 takes tokens 0 and 1, state 1 takes 2, state 2 accepts.
TABLE = np.array([[0, 1, -1], [-1, -1, 2], [-1, 0, 1]])
ACCEPTING = np.array([False, False, True])


def states_of(automaton, tokens):
    """[T, N] tokens -> states [T + 1, N]."""
    states = [automaton.start(tokens.shape[1])]
    for row in tokens:
        states.append(automaton.advance(states[-1], jnp.asarray(row)))
    return np.array(states)


def language(automaton, longest):
    """All token sequences up to a length that are allowed and end where they should."""
    found, open_texts = set(), [((), automaton.start(1))]
    for _ in range(longest):
        longer = []
        for text, state in open_texts:
            for token in np.flatnonzero(automaton.allowed(state)[0]):
                after = automaton.advance(state, jnp.array([token]))
                target = found.add if bool(automaton.finished(after)[0]) else longer.append
                target((*text, int(token)) if target == found.add else ((*text, int(token)), after))
        open_texts = longer
    return found, [text for text, _ in open_texts]


def test_follows_the_table():
    automaton = TokenAutomaton.create(TABLE, ACCEPTING)
    states = states_of(automaton, np.array([[0, 1], [0, 2], [1, 0]]))
    np.testing.assert_array_equal(states, [[0, 0], [0, 1], [0, 2], [1, 2]])
    assert states.dtype == np.int32
    np.testing.assert_array_equal(automaton.finished(jnp.array([0, 1, 2])), [False, False, True])
    mask = automaton.allowed(jnp.array([0, 1, 2]))
    np.testing.assert_array_equal(mask, [[1, 1, 0], [0, 0, 1], [1, 1, 1]])
    assert mask.dtype == bool


def test_a_finished_row_is_harmless_whatever_it_is_given():
    automaton = TokenAutomaton.create(TABLE, ACCEPTING)
    for tokens in itertools.product(range(3), repeat=4):
        after = states_of(automaton, np.array([[1], [2], *([t] for t in tokens)]))
        assert (after[2:] == 2).all()
        # A row that ended for another reason gets padding, allowed or not.
        states = states_of(automaton, np.array([[t] for t in tokens])).ravel()
        assert ((states >= 0) & (states < 3)).all()
        assert automaton.allowed(jnp.asarray(states)).any(axis=1).all()


def test_nothing_excluded_gives_no_mask_and_forbidden_tokens_of_accepting_states_do_not_count():
    free = TokenAutomaton.create(np.array([[0, 1], [-1, -1]]), np.array([False, True]))
    assert free.allowed(free.start(2)) is None
    assert TokenAutomaton.create(TABLE, ACCEPTING).allowed(jnp.zeros(2, int)) is not None


def test_start_state():
    automaton = TokenAutomaton.create(TABLE, ACCEPTING, start_state=1)
    np.testing.assert_array_equal(automaton.start(3), [1, 1, 1])


@pytest.mark.parametrize(
    "states, dtype",
    [(1, np.int8), (128, np.int8), (129, np.int16), (32768, np.int16), (32769, np.int32)],
)
def test_the_smallest_dtype_and_every_state_survives_it(states, dtype):
    chain = np.minimum(np.arange(states) + 1, states - 1)[:, None]
    automaton = TokenAutomaton.create(chain, np.zeros(states, bool))
    assert automaton.transitions.dtype == dtype
    after = automaton.advance(jnp.arange(states), jnp.zeros(states, jnp.int32))
    np.testing.assert_array_equal(after, chain[:, 0])


def test_jit_vmap_and_one_compilation_for_tables_of_one_shape():
    tokens = np.random.default_rng(0).integers(0, 3, (6, 4, 5))  # [T, B, G]
    traces = []

    @jax.jit
    def run(automaton, tokens):
        traces.append(1)

        def step(state, row):
            return (jax.vmap(automaton.advance)(state, row),) * 2

        start = automaton.start(20).reshape(4, 5)
        states = jax.lax.scan(step, start, tokens)[1]
        return states, jax.vmap(automaton.allowed)(states[-1])

    for table in (TABLE, np.array([[1, -1, -1], [1, 0, 2], [-1, -1, -1]])):
        automaton = TokenAutomaton.create(table, ACCEPTING)
        states, mask = run(automaton, tokens)
        expected = states_of(automaton, tokens.reshape(6, 20))[1:]
        np.testing.assert_array_equal(states.reshape(6, 20), expected)
        np.testing.assert_array_equal(mask.reshape(20, 3), automaton.allowed(expected[-1]))
    assert len(traces) == 1


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(transitions=TABLE[0]), r"shape \[S, V\].*shape \(3,\)"),
        (dict(transitions=TABLE[:, :0]), r"S and V >= 1, got int64 of shape \(3, 0\)"),
        (dict(transitions=TABLE * 1.0), "must be integers.*float64"),
        (dict(accepting=ACCEPTING[:2]), r"bool of shape \[3\].*\(2,\)"),
        (dict(accepting=ACCEPTING.astype(int)), "must be bool.*int64"),
        (dict(start_state=3), r"start_state must be in 0..2 and not accepting, got 3"),
        (dict(start_state=2), "not accepting, got 2"),
        (dict(transitions=TABLE - 1), r"must be in -1..2, got -2..1"),
        (dict(transitions=TABLE + 1), r"must be in -1..2, got 0..3"),
        (dict(accepting=np.array([False] * 3), transitions=np.diag([1, 1, 0]) - 1), "State 2 forb"),
    ],
)
def test_bad_tables(changes, message):
    with pytest.raises(ValueError, match=message):
        TokenAutomaton.create(**(dict(transitions=TABLE, accepting=ACCEPTING) | changes))


def test_allowed_tokens_only_and_no_end():
    automaton = allowed_tokens_automaton(iter([3, 1, 3]), 5)
    assert language(automaton, 3) == (set(), list(itertools.product((1, 3), repeat=3)))
    np.testing.assert_array_equal(automaton.start(2), [0, 0])
    assert allowed_tokens_automaton(range(5), 5).allowed(jnp.array([0])) is None


@pytest.mark.parametrize(
    "choices, eos",
    [
        ([[1, 2], [1, 3, 3], [4]], None),
        ([[1, 2], [1, 2], np.array([2, 2])], None),
        ([[1], [1, 2], [1, 2, 3], [2]], 0),
        ([[3, 3, 3], [3, 3], [3]], 5),
    ],
)
def test_the_language_of_phrases_is_the_choices(choices, eos):
    found, unfinished = language(phrase_automaton(choices, 6, eos=eos), 6)
    ending = () if eos is None else (eos,)
    assert found == {(*map(int, choice), *ending) for choice in choices}
    assert unfinished == []


def test_random_rows_under_the_mask_write_every_choice_and_nothing_else():
    choices = [[1], [1, 2], [3, 1, 1], [3, 2]]

    @jax.jit
    def sample(automaton, key):
        def step(state, key):
            logits = jnp.where(automaton.allowed(state), 0.0, -jnp.inf)
            tokens = jax.random.categorical(key, logits)
            ended_before = automaton.finished(state)
            return automaton.advance(state, tokens), (tokens, ended_before)

        end, (tokens, done) = jax.lax.scan(step, automaton.start(300), jax.random.split(key, 5))
        return tokens.T, done.T, automaton.finished(end)

    tokens, done, ended = sample(phrase_automaton(choices, 5, eos=4), jax.random.key(0))
    assert np.all(ended)
    rows = zip(np.array(tokens), np.array(done), strict=True)
    texts = {tuple(row[~padding].tolist()) for row, padding in rows}
    assert texts == {(*choice, 4) for choice in choices}


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: allowed_tokens_automaton([], 5), "at least one token"),
        (lambda: allowed_tokens_automaton([1, 5], 5), r"tokens must be ids in 0..4, got 5"),
        (lambda: allowed_tokens_automaton([-1], 5), "got -1"),
        (lambda: phrase_automaton([], 5), "at least one token sequence"),
        (lambda: phrase_automaton([[1], []], 5), r"choices\[1\] must have tokens"),
        (lambda: phrase_automaton([[1], [2, 7]], 5), r"choices\[1\] must be ids in 0..4, got 7"),
        (lambda: phrase_automaton([[1]], 5, eos=5), "eos must be ids in 0..4, got 5"),
        (lambda: phrase_automaton([[1, 0, 2]], 5, eos=0), r"eos \(0\) not among them"),
        (lambda: phrase_automaton([[1, 3], [2], [1]], 5), r"\[1\] begins the choice \[1, 3\]"),
    ],
)
def test_bad_sets_and_phrases(build, message):
    with pytest.raises(ValueError, match=message):
        build()
