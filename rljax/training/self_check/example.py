"""One example of the first batch for people: what is read, what is learned, where it ends."""

from collections.abc import Iterable
from typing import Any

from rich.text import Text

from rljax.data.text_format import TextFormat
from rljax.training.update.sequences import Sequence

# Kinds of tokens -> how a console shows them.
STYLES = {"prompt": "dim", "unlearned": "yellow", "learned": "green", "end": "bold reverse green"}

# Tokens that a console shows at most, half of them from each end.
SHOWN = 400


def first_example(examples: Iterable[Sequence], text_format: TextFormat) -> dict[str, Any]:
    """The first sequence of which something is learned, as JSON-able tokens with their kinds.

    Args:
        examples: of a batch.
        text_format: of the run.

    Returns:
        {"tokens": [text, ...], "ids": [id, ...], "kinds": [kind, ...]}, kinds being "prompt",
        "learned", "end" (learned, and ends a completion) and "unlearned" (after the first learned
        token). Empty lists where nothing is learned.
    """
    for tokens, learned in examples:
        if not learned.any():
            continue
        first, kinds = int(learned.argmax()), []
        for place, (token, on) in enumerate(zip(tokens.tolist(), learned.tolist(), strict=True)):
            if place < first:
                kinds.append("prompt")
            elif not on:
                kinds.append("unlearned")
            else:
                kinds.append("end" if token in text_format.ends else "learned")
        texts = [text_format.tokenizer.token_text(token) for token in tokens.tolist()]
        return {"tokens": texts, "ids": tokens.tolist(), "kinds": kinds}
    return {"tokens": [], "ids": [], "kinds": []}


def in_colours(example: dict[str, Any]) -> Text:
    """The example for a console, after what the colours mean."""
    return Text.assemble(("first example: ", "bold"), legend(), "\n", coloured(example))


def legend() -> Text:
    """The kinds of tokens, each as it is shown."""
    text = Text()
    for kind, style in STYLES.items():
        text.append(kind, style=style).append(" ")
    return text


def coloured(example: dict[str, Any]) -> Text:
    """The tokens of an example, each as its kind is shown."""
    text, count = Text(), len(example["tokens"])
    for place, (token, kind) in enumerate(zip(example["tokens"], example["kinds"], strict=True)):
        if count > SHOWN and SHOWN // 2 <= place < count - SHOWN // 2:
            if place == SHOWN // 2:
                text.append(f" ... {count - SHOWN} tokens ... ", style="italic")
            continue
        text.append(token, style=STYLES[kind])
    return text
