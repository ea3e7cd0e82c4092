"""The alphabet of the symbol tasks: every symbol is one character of text and one token id."""

from collections.abc import Iterable, Sequence

import numpy as np

# Id of a symbol = its place. The letters l r s w x name edits (tasks/symbols/edit.py).
SYMBOLS = "_$" + "0123456789" + "abcdefgh" + "lrswx" + "+-*/()" + "=,;:>%"
PAD, EOS = "_", "$"
LETTERS = "abcdefgh"
IDS = {symbol: place for place, symbol in enumerate(SYMBOLS)}
PAD_ID, EOS_ID = IDS[PAD], IDS[EOS]
ZERO_ID = IDS["0"]  # the digit d has the id ZERO_ID + d
VOCAB_SIZE = len(SYMBOLS)


def encode(text: str) -> list[int]:
    """Ids of a text.

    Raises:
        ValueError: for a character that is no symbol.
    """
    try:
        return [IDS[symbol] for symbol in text]
    except KeyError as error:
        raise ValueError(
            f"{error.args[0]!r} in {text[:80]!r} is no symbol of this alphabet; known: {SYMBOLS!r} "
            "(rljax/tasks/symbols/alphabet.py)."
        ) from error


def decode(ids: Iterable[int]) -> str:
    """Text of ids, pad and eos included.

    Raises:
        ValueError: for an id outside [0, VOCAB_SIZE).
    """
    ids = [int(token_id) for token_id in ids]
    for token_id in ids:
        if not 0 <= token_id < VOCAB_SIZE:
            raise ValueError(f"Token id {token_id} is outside [0, {VOCAB_SIZE}).")
    return "".join(SYMBOLS[token_id] for token_id in ids)


def rows(texts: Sequence[str], width: int, *, left: bool) -> tuple[np.ndarray, np.ndarray]:
    """Texts as padded rows.

    Args:
        texts: M texts of at most `width` symbols.
        width: of a row.
        left: pad on the left, as prompts are; else on the right.

    Returns:
        ids [M, width] i32 and mask [M, width] bool, True on symbols of the text.

    Raises:
        ValueError: for a text that is too long, or holds no symbol of the alphabet.
    """
    tokens = np.full((len(texts), width), PAD_ID, np.int32)
    mask = np.zeros((len(texts), width), bool)
    for row, text in enumerate(texts):
        if len(text) > width:
            raise ValueError(f"{text!r} has {len(text)} symbols, a row has room for {width}.")
        start = width - len(text) if left else 0
        tokens[row, start : start + len(text)] = encode(text)
        mask[row, start : start + len(text)] = True
    return tokens, mask
