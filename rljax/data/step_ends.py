"""Where the steps of sampled answers end, found on their tokens."""

from collections.abc import Sequence

import numpy as np

# What is made of the probabilities that the steps of an answer are right.
STEP_SCORE_REDUCTIONS = ("last", "min", "mean", "product")


def step_ends(
    tokens: np.ndarray, mask: np.ndarray, token_bytes: Sequence[bytes], separator: str
) -> np.ndarray:
    """The last token of each step of an answer, whatever tokens the separator is spread over.

    A step is what stands between two separators, if it is more than blanks. It ends with the last
    token of the separators behind it, where no other text begins before; the last step ends with
    the last token that adds to the text. So do the steps of rows that say a label for each, which
    are tokenised one by one (`stepwise_of`, data/feedback.py).

    Args:
        tokens: [N, T] i32.
        mask: [N, T] bool; the True slots come first.
        token_bytes: of every id.
        separator: between two steps, not empty.

    Returns:
        [N, T] bool; at least one in a row with a token.
    """
    ends, mark = np.zeros(mask.shape, bool), separator.encode("utf-8")
    for row, (ids, kept) in enumerate(zip(tokens, mask, strict=True)):
        length = int(kept.sum())
        ends[row, _ends_of_row([token_bytes[token] for token in ids[:length]], mark)] = True
    return ends


def _ends_of_row(pieces: Sequence[bytes], mark: bytes) -> list[int]:
    """Slots in which the steps end."""
    found: list[int] = []
    text, begun = b"", 0  # where the step that is read begins in the text
    for slot, piece in enumerate(pieces):
        text += piece
        step, separator, after = text[begun:].rpartition(mark)
        if not separator:
            continue
        begun = len(text) - len(after)
        if step.replace(mark, b"").strip():
            found.append(slot)
        elif found and not after.strip():
            found[-1] = slot  # one more separator behind the step
    written = [slot for slot, piece in enumerate(pieces) if piece]
    if text[begun:].strip():
        return [*found, written[-1]]
    # An answer without a text is one step, at its end.
    return found or [len(pieces) - 1] * bool(pieces)


def reduce_steps(probabilities: np.ndarray, ends: np.ndarray, how: str) -> np.ndarray:
    """One number for each answer of the probabilities of its steps.

    Args:
        probabilities: [N, T] f32, read where a step ends.
        ends: [N, T] bool.
        how: one of `STEP_SCORE_REDUCTIONS`.

    Returns:
        [N] f32; 0 for an answer without a step.
    """
    values = np.asarray(probabilities, np.float64)
    count = ends.sum(axis=1)
    if how == "mean":
        found = np.where(ends, values, 0.0).sum(axis=1) / np.maximum(count, 1)
    elif how == "min":
        found = np.where(ends, values, np.inf).min(axis=1)
    elif how == "product":
        found = np.where(ends, values, 1.0).prod(axis=1)
    else:
        last = ends.shape[1] - 1 - ends[:, ::-1].argmax(axis=1)
        found = np.take_along_axis(values, last[:, None], axis=1)[:, 0]
    return np.where(count > 0, found, 0.0).astype(np.float32)
