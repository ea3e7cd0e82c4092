"""What stands between a reply of the model and its next one, as ids.

What the model has read and written stays as it is, token by token: a reply is never tokenised
again, nor rendered again. Only what the chat template writes behind it is: the end of its turn, the
messages that answer it, and the opening of the next turn.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rljax.data.control_tokens import unmarked
from rljax.data.conversations import Message
from rljax.data.text_format import TextFormat, check_texts

# What becomes of a template that writes earlier turns in another way once later ones follow.
REWRITES = ("refuse", "keep")

# Letters for private use, which no template changes: one that is nowhere stands for the reply.
_PLACES = tuple(map(chr, range(0xE002, 0xF8FF)))


class Rewritten(ValueError):
    """A conversation, or its template, changes what has been read and written before."""


class NextTurn(NamedTuple):
    """The conversation before the model's next reply.

    Attributes:
        tokens: ids behind the reply; none of them was sampled.
        messages: all so far, the reply included.
    """

    tokens: list[int]
    messages: list[Message]


def next_turn(
    text_format: TextFormat,
    messages: Sequence[Message],
    reply: Sequence[int],
    answers: Sequence[Message],
    *,
    options: Mapping[str, Any],
    rewritten: str,
    where: str,
) -> NextTurn:
    """The ids behind a reply, and the conversation with its answers.

    Args:
        text_format: of the run, with a chat template.
        messages: before the reply, as `TextFormat.prompt` or this function gave them.
        reply: ids that the model wrote, the one that ends the turn included if it was written.
        answers: messages that follow, at least one.
        options: variables of the template, as of the prompt.
        rewritten: one of `REWRITES`; "keep" lets the model read on what it read and wrote.
        where: the problem and the turn, for errors.

    Raises:
        Rewritten: for a template that writes earlier turns in another way once later ones follow.
        ValueError: for messages that it refuses, or a template that does not show a reply.
    """
    check_texts(list(answers), where)
    answers = text_format.control_tokens.marked(list(answers), where)
    render = text_format.template.render
    shown = render(messages, open_turn=True, options=options, where=where)
    place = _unused(shown, answers)
    opening = _opening(text_format, messages, shown, options, place, where)
    text = opening + text_format.control_tokens.marked(text_format.text(reply), where)
    said = {"role": "assistant", "content": text}
    if rewritten == "refuse":
        whole = render([*messages, said, *answers], open_turn=True, options=options, where=where)
        if not _squeezed(whole).startswith(_squeezed(shown + text[len(opening) :])):
            raise Rewritten(
                f"{where}: the chat template writes earlier turns in another way once later ones "
                f"follow: of {unmarked(shown + text)[-60:]!r} it makes {unmarked(whole)[-80:]!r}"
            )
    held = {"role": "assistant", "content": opening + place}
    behind = render([*messages, held, *answers], open_turn=True, options=options, where=where)
    before, found, rest = behind.rpartition(place)
    if not found:
        raise ValueError(
            f"{where}: the chat template does not show what the assistant says, so that nothing "
            "can follow it (config.tokenizer.path)."
        )
    tokens = text_format.control_tokens.encode(rest, inside=True)
    if tokens and reply and tokens[0] == reply[-1] and tokens[0] in text_format.ends:
        tokens = tokens[1:]  # the model has ended its turn itself
    return NextTurn(tokens, [*messages, said, *answers])


def _opening(
    text_format: TextFormat,
    messages: Sequence[Message],
    shown: str,
    options: Mapping[str, Any],
    place: str,
    where: str,
) -> str:
    """What a template writes for the model at the beginning of its turn, such as "<think>"."""
    held = {"role": "assistant", "content": place}
    closed = text_format.template.render(
        [*messages, held], open_turn=False, options=options, where=where
    )
    before = closed.partition(place)[0]
    return shown[len(before) :] if shown.startswith(before) else ""


def _unused(shown: str, answers: Sequence[Message]) -> str:
    """A letter that is in none of these texts."""
    texts = shown + json.dumps(list(answers), ensure_ascii=False, default=str)
    return next(letter for letter in _PLACES if letter not in texts)


def _squeezed(text: str) -> str:
    """Without blanks, which templates strip around what is said."""
    return "".join(text.split())
