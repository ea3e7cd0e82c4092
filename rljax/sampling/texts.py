"""Tokens of completions to text, without the string or token that ended them."""

import functools
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from rljax.sampling.automaton import TokenAutomaton
from rljax.sampling.request import StopReason
from rljax.sampling.stop_strings import stop_string_automaton


class TextTokenizer(Protocol):
    """What a generator asks of a tokenizer; those of `rljax.data.tokenizers` have it."""

    vocab_size: int
    pad_id: int
    bos_id: int | None
    eos_id: int

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without any bos or eos."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; pad, bos and eos are left out."""
        ...

    def known(self) -> np.ndarray:
        """[vocab_size] bool, True where an id is a token."""
        ...

    def token_bytes(self) -> list[bytes]:
        """What each id adds to a text, in UTF-8; b"" for what `decode` leaves out."""
        ...


class Texts:
    """Text and stop strings of one tokenizer, for a network with V logits (`vocab_size`)."""

    def __init__(self, tokenizer: TextTokenizer, vocab_size: int) -> None:
        self.tokenizer, self.vocab_size = tokenizer, vocab_size
        self.automaton = functools.cache(self._automaton)

    @functools.cached_property
    def spelling(self) -> list[bytes]:
        """[V] what each id adds to a text; nothing, where the tokenizer lacks it."""
        known = self.tokenizer.token_bytes()
        return known + [b""] * (self.vocab_size - len(known))

    def _automaton(self, strings: tuple[str, ...]) -> TokenAutomaton | None:
        """What ends a completion with one of the strings; None without any.

        Raises:
            ValueError: for a string that no completion can contain.
        """
        if not strings:
            return None
        found = stop_string_automaton(strings, self.spelling)
        for text in strings:
            back = self.tokenizer.decode(self.tokenizer.encode(text))
            if back.lstrip(" ") != text.lstrip(" "):
                raise ValueError(
                    f"The tokenizer cannot write the stop string {text!r}, it makes {back!r} of it "
                    "(SamplingOptions.stop)."
                )
        return found

    def of(self, tokens: Sequence[int], reason: StopReason, stop: Sequence[str]) -> tuple[str, str]:
        """The text of a completion without what ended it, and the text of all its tokens."""
        whole = self.decoded(tokens)
        if reason == StopReason.STOP_TOKEN:
            return self.decoded(tokens[:-1]), whole
        if reason == StopReason.STOP_STRING:
            tail = stop_string_tail([self.spelling[token] for token in tokens], stop)
            return without_tail(whole, tail), whole
        return whole, whole

    def decoded(self, tokens: Sequence[int]) -> str:
        """The text of tokens; ids that only the network has are no text."""
        return self.tokenizer.decode([id for id in tokens if id < self.tokenizer.vocab_size])


def stop_string_tail(tokens: Sequence[bytes], strings: Sequence[str]) -> bytes:
    """The end of a completion, from its stop string on.

    It repeats what the automaton has seen (stop_strings.py): a string that was found before, in a
    completion that was too short to end, has no part in another one.

    Args:
        tokens: what each one adds to the text; the last one completes a stop string.
        strings: the stop strings. Of several that end at the same place the longest counts.
    """
    words = [text.encode("utf-8") for text in strings]
    reach = max(map(len, words)) - 1  # bytes before a token that a string in it can begin with
    seen = b""
    for token in tokens[:-1]:
        seen += token
        seen = b"" if any(word in seen for word in words) else seen[max(len(seen) - reach, 0) :]
    seen += tokens[-1]
    found = [(seen.find(word) + len(word), seen.find(word)) for word in words if word in seen]
    return seen[min(found)[1] :]


def without_tail(text: str, tail: bytes) -> str:
    """The text without its last letters, as many as there are in `tail`.

    They are counted, not compared: tokenizers drop spaces at the beginning of a text, and show
    broken characters in ways of their own.
    """
    letters = len(tail.decode("utf-8", errors="replace"))
    return text[: max(len(text) - letters, 0)]
