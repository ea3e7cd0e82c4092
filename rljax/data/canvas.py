"""The canvas of a demonstration: a diffusion model fills all of it, what is behind the end too.

Such a model learns to end its answer by filling the rest of its canvas with end tokens, which are
part of what is learned (arXiv:2502.09992, section 2.3).
"""

from collections.abc import Sequence

from rljax.data.packing import Example


def filled(example: Example, canvas_tokens: int, ends: Sequence[int], where: str) -> Example:
    """The example with its last answer filled up to a canvas, with the token that ends it.

    Canvas of 4, end E: prompt a b, answer c E -> a b | c E E E. An answer without an end token
    was cut: it stays as it is, since nothing says that it ends there.

    Args:
        example: prompt, and an answer that is learned.
        canvas_tokens: of the canvas; 0 fills nothing.
        ends: ids that end an answer.
        where: the field, for errors.

    Raises:
        ValueError: for an answer that is longer than the canvas.
    """
    if not canvas_tokens:
        return example
    learned = len(example.learned)
    while learned and example.learned[learned - 1]:
        learned -= 1
    answer = len(example.tokens) - learned
    if answer > canvas_tokens:
        raise ValueError(
            f"An answer has {answer} tokens with its end, the canvas {canvas_tokens} ({where})."
        )
    if not answer or example.tokens[-1] not in ends:
        return example
    rest = canvas_tokens - answer
    return Example(
        [*example.tokens, *rest * [example.tokens[-1]]], [*example.learned, *rest * [True]]
    )
