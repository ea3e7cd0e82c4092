"""Stop strings as an automaton over tokens, so that a row ends inside the sampling program.

Aho and Corasick (1975), Efficient string matching, over the bytes of UTF-8: a string is found
wherever it lies in the tokens, also where it begins and ends within one or a character is cut.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rljax.sampling.automaton import TokenAutomaton

FIELD = "config.<stage>.sampling.stop_strings"


def stop_string_automaton(
    strings: Sequence[str], token_bytes: Sequence[bytes], *, vocab_size: int | None = None
) -> TokenAutomaton:
    """Ends a row with the token that completes one of the strings, anywhere in its bytes.

    A state is the longest end of the text so far that begins a stop string, so there are at most
    1 + (bytes of all strings) of them. The text is the completion's alone: what the prompt ends
    with begins no stop string. Nothing is forbidden; `allowed` is None.

    Args:
        strings: the stop strings; which one ended a row is not recorded.
        token_bytes: what each id adds to a text (`Tokenizer.token_bytes`); b"" leaves the state.
        vocab_size: V, the width of the logits; ids beyond `token_bytes` add nothing. By default as
            many as `token_bytes`.

    Raises:
        ValueError: if the list is empty, or an entry is not a string, is empty, is not valid UTF-8,
            holds U+FFFD, or cannot be spelled by any sequence of tokens; if V is less than the
            number of tokens.
    """
    words = _words(strings)
    count = len(token_bytes) if vocab_size is None else vocab_size
    if count < len(token_bytes):
        raise ValueError(
            f"vocab_size must be at least the tokenizer's {len(token_bytes)}, got {vocab_size}."
        )
    matcher = _matcher(words)
    order, columns = _byte_columns(token_bytes)
    accept = matcher.proper
    table = np.repeat(np.arange(accept + 1, dtype=np.int32)[:, None], count, axis=1)
    follows, completes = [], []  # per node: nodes one token later, words on the way
    for node in range(len(matcher.step)):
        ends, found, hits = _read(matcher, node, columns, len(token_bytes))
        follows.append(np.unique(ends))
        completes.append(hits)
        if node < accept:
            table[node, order] = np.where(found, accept, ends)
    spelled = set().union(*(completes[node] for node in _reachable(follows)))
    for place, word in enumerate(words):
        if accept + place not in spelled:
            raise ValueError(
                f"No sequence of tokens spells the stop string {word.decode()!r}: no row would "
                f"ever end with it ({FIELD})."
            )
    return TokenAutomaton.create(table, np.arange(accept + 1) == accept)


def _words(strings: Sequence[str]) -> list[bytes]:
    """The strings that can be the first to be found, as UTF-8."""
    if isinstance(strings, str) or not len(strings):
        raise ValueError(f"Stop strings must be a list of at least one, got {strings!r} ({FIELD}).")
    for text in strings:
        if not isinstance(text, str) or not text:
            raise ValueError(f"A stop string must be a non-empty string, got {text!r} ({FIELD}).")
        # Decoding shows U+FFFD for broken bytes; those cannot be told from the letter.
        if "\ufffd" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(
                f"A stop string must be valid UTF-8 without U+FFFD, got {text!r} ({FIELD})."
            )
    words = dict.fromkeys(text.encode("utf-8") for text in strings)

    # A stop string that contains another one is never completed before that one.
    def contains(word: bytes) -> bool:
        return any(other in word for other in words if other != word)

    return [word for word in words if not contains(word)]


class _Matcher(NamedTuple):
    """Which words end at each byte of a text. Nodes are the beginnings of words.

    No word contains another, so a node is a whole word exactly when that word, and no other, ends.
    """

    step: np.ndarray  # [nodes, 256] i32, the node after one more byte
    proper: int  # nodes before it are proper beginnings, 0 the empty one; then the words, in order


def _matcher(words: Sequence[bytes]) -> _Matcher:
    proper = sorted({word[:end] for word in words for end in range(len(word))}, key=len)
    nodes = {text: node for node, text in enumerate([*proper, *words])}
    step = np.zeros((len(nodes), 256), np.int32)
    children: dict[bytes, list[bytes]] = {text: [] for text in nodes}
    for text in nodes:
        if text:
            children[text[:-1]].append(text)
    for text in sorted(nodes, key=len):
        if text:
            # Where no word goes on, the text goes on like its longest end that is a node.
            shorter = next(text[cut:] for cut in range(1, len(text) + 1) if text[cut:] in nodes)
            step[nodes[text]] = step[nodes[shorter]]
        for child in children[text]:
            step[nodes[text], child[-1]] = nodes[child]
    return _Matcher(step, len(proper))


def _byte_columns(token_bytes: Sequence[bytes]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Tokens from the longest to the shortest [V], and the byte at each position of those with one.

    Position p has the first n_p tokens of that order, [n_p] i32.
    """
    lengths = np.array([len(token) for token in token_bytes])
    joined = np.frombuffer(b"".join(token_bytes), np.uint8)
    begins = np.cumsum(lengths) - lengths
    order = np.argsort(-lengths, kind="stable")
    longer = np.searchsorted(-lengths[order], -np.arange(lengths.max(initial=0)))
    columns = [joined[begins[order[:n]] + p].astype(np.int32) for p, n in enumerate(longer)]
    return order, columns


def _read(
    matcher: _Matcher, node: int, columns: Sequence[np.ndarray], tokens: int
) -> tuple[np.ndarray, np.ndarray, set[int]]:
    """Every token from one node on: node at its end [V], whether a word ended [V], and which."""
    step, first_word = matcher.step.ravel(), matcher.proper
    ends, found = np.full(tokens, node, np.int32), np.zeros(tokens, bool)
    hits: set[int] = set()
    for column in columns:
        now = step[ends[: len(column)] * 256 + column]
        ends[: len(column)] = now
        ended = now >= first_word
        found[: len(column)] |= ended
        hits.update(np.unique(now[ended]).tolist())
    return ends, found, hits


def _reachable(follows: Sequence[np.ndarray]) -> set[int]:
    """Nodes that some sequence of tokens leads to, the empty text included."""
    seen, fresh = {0}, {0}
    while fresh:
        fresh = {int(end) for node in fresh for end in follows[node]} - seen
        seen |= fresh
    return seen
