"""Control tokens that are written out in the texts of rows: a user's text that ends a turn, say.

    token    they become that token, as transformers makes them (the default)
    text     they stay the letters that they are
    refuse   the row is refused

What a chat template writes itself is a token in any case.
"""

import re
from collections.abc import Mapping
from typing import Any

from rljax.data.tokenizers import Tokenizer

RULES = ("token", "text", "refuse")
FIELD = "config.tokenizer.control_tokens"

# Two letters for private use stand around what is to stay text until it has been tokenised.
OPEN, CLOSE = "\ue000", "\ue001"


class ControlTokens:
    """The rule of a run, for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, rule: str) -> None:
        """Takes the tokenizer's own list; tags of the config are no control tokens."""
        self.tokenizer, self.rule = tokenizer, rule
        longest_first = sorted(tokenizer.control_tokens, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def marked(self, value: Any, where: str) -> Any:
        """Texts of a row, nested in any way, as `encode` wants them.

        Args:
            value: a text, or mappings and lists of texts.
            where: file and row, for the error.

        Raises:
            ValueError: with the rule "refuse", for a text that holds a control token.
        """
        if self.rule == "token":
            return value
        if isinstance(value, Mapping):
            return {key: self.marked(each, where) for key, each in value.items()}
        if isinstance(value, list):
            return [self.marked(each, where) for each in value]
        if not isinstance(value, str):
            return value
        found = self._pattern.search(value)
        if found and self.rule == "refuse":
            raise ValueError(
                f"{where}: the text holds the control token {found[0]!r}: "
                f"{value[max(found.start() - 20, 0) : found.end() + 20]!r} ({FIELD})."
            )
        plain = value.replace(OPEN, "").replace(CLOSE, "")
        return self._pattern.sub(lambda match: f"{OPEN}{match[0]}{CLOSE}", plain)

    def encode(self, text: str, *, inside: bool) -> list[int]:
        """Ids of a rendered text with its marks.

        Args:
            text: marked.
            inside: whether it follows another text.
        """
        first = self.tokenizer.encode_inside if inside else self.tokenizer.encode
        if OPEN not in text and CLOSE not in text:
            return first(text)
        # A template may have torn marks apart: a single one is dropped, and still parts the text.
        start, *rest = re.split(f"{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}|[{OPEN}{CLOSE}]", text)
        ids = first(start) if start else []
        for place, piece in enumerate(rest):
            if piece:
                plain = place % 2 == 0
                encode = self.tokenizer.encode_plain if plain else self.tokenizer.encode_inside
                ids += encode(piece)
        return ids


def unmarked(text: str) -> str:
    """The text as people read it."""
    return text.replace(OPEN, "").replace(CLOSE, "")
