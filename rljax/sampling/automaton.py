"""Finite automata over tokens: constraints whose state is one number and whose step is a lookup."""

import itertools
from collections.abc import Iterable, Sequence

import flax.struct
import jax.numpy as jnp
import numpy as np
from jax import Array

FORBIDDEN = -1


@flax.struct.dataclass
class TokenAutomaton:
    """A `Constraint` with S states; the state of N rows is [N] i32. Build it with `create`.

    Whatever a finished row is given afterwards, its state stays in 0..S-1 and allows some token.

    Attributes:
        transitions: [S, V] int8, int16 or int32, the next state; `FORBIDDEN` where a token may not
            come. V is the width of the logits. S * V numbers stay on the device.
        accepting: [S] bool, True where a row ends.
        start_state: [] i32, before the first token.
        restricts: whether any token is ever forbidden. Static.
    """

    transitions: Array
    accepting: Array
    start_state: Array
    restricts: bool = flax.struct.field(pytree_node=False)

    @classmethod
    def create(
        cls, transitions: np.ndarray, accepting: np.ndarray, start_state: int = 0
    ) -> "TokenAutomaton":
        """Checks a table and stores it in the smallest dtype.

        Args:
            transitions: [S, V] integers, the next state or `FORBIDDEN`. Rows of accepting states
                are ignored: such a state is never left.
            accepting: [S] bool.
            start_state: in 0..S-1, not accepting.

        Raises:
            ValueError: if shapes or states do not fit, or a state is a dead end: it forbids every
                token and does not accept.
        """
        transitions, accepting = np.asarray(transitions), np.asarray(accepting)
        _check_table(transitions, accepting, start_state)
        states = len(transitions)
        fits = (kind for kind in (np.int8, np.int16, np.int32) if states - 1 <= np.iinfo(kind).max)
        table = transitions.astype(next(fits))
        table[accepting] = np.flatnonzero(accepting)[:, None]
        return cls(
            transitions=jnp.asarray(table),
            accepting=jnp.asarray(accepting),
            start_state=jnp.int32(start_state),
            restricts=bool((table < 0).any()),
        )

    def start(self, rows: int) -> Array:
        return jnp.full((rows,), self.start_state, jnp.int32)

    def allowed(self, state: Array) -> Array | None:
        return self.transitions[state] >= 0 if self.restricts else None

    def advance(self, state: Array, tokens: Array) -> Array:
        """The next states. A forbidden token, such as padding after the end, changes nothing."""
        following = self.transitions[state, tokens].astype(jnp.int32)
        return jnp.where(following < 0, state, following)

    def finished(self, state: Array) -> Array:
        return self.accepting[state]


def allowed_tokens_automaton(tokens: Iterable[int], vocab_size: int) -> TokenAutomaton:
    """Allows only these tokens, in any order. It ends no row: include eos, or rows become full.

    Args:
        tokens: ids in 0..V-1.
        vocab_size: V, the width of the logits.

    Raises:
        ValueError: if there is no token, or an id is outside of the vocabulary.
    """
    tokens = list(tokens)
    if not tokens:
        raise ValueError("tokens must name at least one token, got none.")
    _check_ids(tokens, vocab_size, "tokens")
    transitions = np.full((1, vocab_size), FORBIDDEN)
    transitions[0, tokens] = 0
    return TokenAutomaton.create(transitions, np.zeros(1, bool))


def phrase_automaton(
    choices: Sequence[Sequence[int]], vocab_size: int, *, eos: int | None = None
) -> TokenAutomaton:
    """The completion is one of these token sequences, and ends with it: a trie.

    A state is what has been written so far, so S is at most 1 + the number of tokens in `choices`
    (and one eos each).

    Args:
        choices: token sequences, each of at least one id in 0..V-1. One that is given twice counts
            once.
        vocab_size: V, the width of the logits.
        eos: token that must follow each choice, so that one choice may begin another; the row ends
            with it. None: the row ends with the last token of its choice.

    Raises:
        ValueError: if there is no choice, one is empty or holds eos or an id outside of the
            vocabulary, or, without eos, one begins another, which then could never be finished.
    """
    if not len(choices):
        raise ValueError("choices must hold at least one token sequence, got none.")
    ending = () if eos is None else (eos,)
    _check_ids(ending, vocab_size, "eos")
    for place, choice in enumerate(choices):
        if not len(choice) or eos in choice:
            raise ValueError(
                f"choices[{place}] must have tokens, eos ({eos}) not among them, got {choice!r}."
            )
        _check_ids(choice, vocab_size, f"choices[{place}]")
    phrases = sorted({(*map(int, choice), *ending) for choice in choices})
    # Sorted, a phrase comes right before one that it begins.
    for short, long in itertools.pairwise(phrases):
        if long[: len(short)] == short:
            raise ValueError(
                f"The choice {list(short)} begins the choice {list(long)}, which could not be "
                "finished: give eos, or leave one of them out (choices)."
            )
    written = dict.fromkeys(phrase[:end] for phrase in phrases for end in range(len(phrase)))
    states = {text: state for state, text in enumerate(written)}  # () is the first
    complete = len(states)
    transitions = np.full((complete + 1, vocab_size), FORBIDDEN)
    for phrase in phrases:
        for end, token in enumerate(phrase):
            following = states.get(phrase[: end + 1], complete)
            transitions[states[phrase[:end]], token] = following
    return TokenAutomaton.create(transitions, np.arange(complete + 1) == complete)


def _check_table(transitions: np.ndarray, accepting: np.ndarray, start_state: int) -> None:
    """Raises a ValueError for what `TokenAutomaton.create` excludes."""
    matrix = transitions.ndim == 2 and transitions.size > 0
    if not matrix or not np.issubdtype(transitions.dtype, np.integer):
        raise ValueError(
            "transitions must be integers of shape [S, V], S and V >= 1, got "
            f"{transitions.dtype} of shape {transitions.shape}."
        )
    states = len(transitions)
    if accepting.shape != (states,) or accepting.dtype != bool:
        raise ValueError(
            f"accepting must be bool of shape [{states}], as many as transitions has rows, got "
            f"{accepting.dtype} of shape {accepting.shape}."
        )
    if not 0 <= start_state < states or accepting[start_state]:
        raise ValueError(
            f"start_state must be in 0..{states - 1} and not accepting, got {start_state}."
        )
    followed = transitions[~accepting]
    if followed.min() < FORBIDDEN or followed.max() >= states:
        raise ValueError(
            f"transitions must be in {FORBIDDEN}..{states - 1}, got "
            f"{followed.min()}..{followed.max()}."
        )
    dead = ~accepting & (transitions == FORBIDDEN).all(axis=1)
    if dead.any():
        raise ValueError(
            f"State {int(dead.argmax())} forbids every token and does not accept: a row could "
            "neither go on nor end there (transitions, accepting)."
        )


def _check_ids(ids: Iterable[int], vocab_size: int, field: str) -> None:
    for token in ids:
        if not 0 <= token < vocab_size:
            raise ValueError(f"{field} must be ids in 0..{vocab_size - 1}, got {token}.")
