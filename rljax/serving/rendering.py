"""Conversations turn by turn: what a chat template writes between two answers, as tokens.

The ids of an answer are those that were sampled. Of the next prompt only what the template adds
after the answer is tokenised, as text that follows another one (data/text_format.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rljax.data.text_format import Prompt, TextFormat

WHERE = "messages"


class Rewritten(ValueError):
    """A prompt does not extend what has been read and written before."""


def first_turn(
    text_format: TextFormat,
    messages: Sequence[Any],
    tools: Sequence[Any] | None,
    options: Mapping[str, Any],
) -> Prompt:
    """The prompt of a conversation that begins.

    Raises:
        ValueError: for messages that the template refuses.
    """
    return text_format.prompt(
        list(messages), tools=tools, options=options, where="the request", field=WHERE
    )


def append_turn(
    text_format: TextFormat,
    before: Prompt,
    answer: str,
    sampled: Sequence[int],
    messages: Sequence[Any],
    tools: Sequence[Any] | None,
    options: Mapping[str, Any],
) -> tuple[Prompt, list[int]]:
    """The next prompt, and the ids that it adds behind a sampled answer.

    Args:
        text_format: of the model.
        before: the prompt that was answered.
        answer: the text of the answer, without what ended it.
        sampled: its ids, with the one that ended it if one did.
        messages: the whole conversation, with the answer's message.
        tools, options: of the template.

    Returns:
        The prompt as the template renders it; its `tokens` are not those that the model reads.
        And the ids between the sampled ones and the next answer. They begin with the end of the
        assistant's turn where the answer has none, since it was cut off.

    Raises:
        Rewritten: if the template writes earlier turns in another way once later ones follow.
        ValueError: for messages that the template refuses.
    """
    prompt = first_turn(text_format, messages, tools, options)
    try:
        shown = before.rendered + text_format.answered(before, answer, "the request")
    except ValueError as error:
        raise Rewritten(str(error)) from error
    if not text_format.chat_end_text:
        # Nothing marks the end of a turn: what the template writes behind the content is inserted.
        head, content, _ = shown[len(before.rendered) :].rpartition(answer)
        shown = before.rendered + head + content
    if not prompt.rendered.startswith(shown):
        place = _first_difference(prompt.rendered, shown)
        raise Rewritten(
            "the chat template writes earlier turns in another way once later ones follow: "
            f"{shown[place : place + 40]!r} became {prompt.rendered[place : place + 40]!r} "
            f"({type(text_format.template).__name__} of {_source(text_format)})"
        )
    rest = prompt.rendered[len(shown) :]
    if not (sampled and sampled[-1] in text_format.ends):
        rest = text_format.chat_end_text + rest
    return prompt, text_format.control_tokens.encode(rest, inside=True)


def _first_difference(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _source(text_format: TextFormat) -> str:
    """Where the template comes from."""
    return str(getattr(text_format.tokenizer, "folder", "config.tokenizer.chat_turn"))
