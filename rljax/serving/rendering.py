"""Conversations turn by turn, as a client sends them: the prompt of a turn, and what it adds."""

from collections.abc import Mapping, Sequence
from typing import Any

from rljax.data.conversations import read_messages
from rljax.data.next_turn import Rewritten, next_turn
from rljax.data.text_format import Prompt, TextFormat

WHERE = "messages"


class TemplateRewrites(Rewritten):
    """A chat template that writes earlier turns in another way once later ones follow."""


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
    sampled: Sequence[int],
    messages: Sequence[Any],
    rewritten: str = "refuse",
) -> tuple[Prompt, list[int]]:
    """The next prompt, and the ids that it adds behind a sampled answer (data/next_turn.py).

    Args:
        text_format: of the model.
        before: the prompt that was answered.
        sampled: ids of the answer, with the one that ended it if one did.
        messages: that follow the answer.
        rewritten: see `next_turn`.

    Returns:
        The prompt, whose `messages` and `options` alone are those of the next turn; and the ids.

    Raises:
        TemplateRewrites: if the template writes earlier turns in another way later on.
        ValueError: for messages that the template refuses.
    """
    answers = read_messages(list(messages), WHERE)
    words = {"options": before.options, "rewritten": rewritten, "where": "the request"}
    try:
        found = next_turn(text_format, before.messages, sampled, answers, **words)
    except Rewritten as error:
        template = type(text_format.template).__name__
        raise TemplateRewrites(f"{error} ({template} of {_source(text_format)})") from error
    return before._replace(messages=found.messages), found.tokens


def _source(text_format: TextFormat) -> str:
    """Where the template comes from."""
    return str(getattr(text_format.tokenizer, "folder", "config.tokenizer.chat_turn"))
