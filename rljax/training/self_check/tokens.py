"""Whether the ends of completions are learned."""

from collections.abc import Iterable

from rljax.data.text_format import TextFormat
from rljax.training.update.sequences import Sequence


def check_ends(examples: Iterable[Sequence], text_format: TextFormat, *, every: bool) -> None:
    """Looks for the token that ends a completion, and whether the loss counts it.

    Args:
        examples: of the first batch; those of which nothing is learned are left out.
        text_format: of the run.
        every: each must end and learn its end, as demonstrations and pairs do. False: of those that
            ended, some must; others were cut, or left out.

    Raises:
        ValueError: naming the first example that fails.
    """
    missed = None
    for place, (tokens, learned) in enumerate(examples):
        if not learned.any():
            continue
        last = int(tokens[-1])
        ended = last in text_format.ends
        if ended and learned[-1] and not every:
            return
        if (ended or every) and not (ended and learned[-1]) and missed is None:
            missed = place, last, "is not learned" if ended else "ends no completion", tokens[-12:]
    if missed is None:
        return
    place, last, said, words = missed
    tokenizer = text_format.tokenizer
    raise ValueError(
        f"Example {place} of the first batch ends with the token {tokenizer.token_text(last)!r} "
        f"({last}), which {said}: a model that learns this never stops. Its last words: "
        f"{tokenizer.decode(words)!r} (config.checks.ends)."
    )
