"""A growing list of tokens as texts that are sent one after the other and never taken back."""

from collections.abc import Sequence

from rljax.sampling.texts import Texts

# What `decode` shows for bytes that are no character, or not yet.
BROKEN = "\ufffd"


class Deltas:
    """The text of one sample, piece by piece.

    Held back are a character whose bytes have not all come, what may become a stop string, and
    everything from a mark on (such as the opening of a tool call).
    """

    def __init__(self, texts: Texts, stop: Sequence[str], marks: Sequence[str] = ()) -> None:
        self._texts, self._stop, self._marks = texts, tuple(stop), tuple(marks)
        self._sent = ""

    def grown(self, tokens: Sequence[int]) -> str:
        """What can be sent once these tokens are there, and has not been sent."""
        text = self._texts.decoded(tokens).rstrip(BROKEN)
        end = len(text)
        for word in (*self._stop, *self._marks):
            end = min(end, _begun(text, word))
        return self._send(text[:end])

    def ended(self, text: str) -> str:
        """The rest of the final text."""
        return self._send(text)

    def _send(self, text: str) -> str:
        """What a longer text adds; nothing where it is not longer."""
        if not text.startswith(self._sent):
            return ""
        piece, self._sent = text[len(self._sent) :], text
        return piece


def _begun(text: str, word: str) -> int:
    """Where a word stands in a text, or may stand once the text goes on; else its length."""
    found = text.find(word)
    if found >= 0:
        return found
    for size in range(min(len(word) - 1, len(text)), 0, -1):
        if text.endswith(word[:size]):
            return len(text) - size
    return len(text)
