"""Draws from a distribution as one example (Spectrum Tuning, arXiv:2510.06084).

A row describes a distribution and holds independent draws of it, as messages of three roles:

    [description] [input 1] output 1 <end> [input 2] output 2 <end> ...

What is learned are the outputs, each with its end. The draws are exchangeable, so their order is
drawn anew for each row. In one row of five the description is left out: then nothing says what the
distribution is before the first output, which is not learned. The optimum of a later output is its
posterior predictive given the earlier ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rljax.data.conversations import Message
from rljax.data.packing import Example
from rljax.data.text_format import TextFormat, checked_text
from rljax.data.values import UnusableRow

ROLES = ("description", "input", "output")

# Share of rows whose description is left out.
DROPPED = 0.2


class Markup(NamedTuple):
    """How a model's chats mark a turn; its chat template knows none of the three roles.

    Attributes:
        before: of a turn, with {role}.
        end: the token that ends a turn.
        after: what stands behind the end, before the next turn.
    """

    before: str
    end: str
    after: str

    def opened(self, role: str) -> str:
        """The beginning of a turn."""
        return self.before.replace("{role}", role)


MARKUPS = {
    "<|im_start|>": Markup("<|im_start|>{role}\n", "<|im_end|>", "\n"),
    "<|start_header_id|>": Markup(
        "<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>", ""
    ),
    "<start_of_turn>": Markup("<start_of_turn>{role}\n", "<end_of_turn>", "\n"),
}


class Segment(NamedTuple):
    """A piece of text that is learned as a whole, or not at all."""

    text: str
    learned: bool


def markup_of(text_format: TextFormat, where: str) -> Markup:
    """The marks of a tokenizer's chats.

    Raises:
        ValueError: for a tokenizer that has none of `MARKUPS`.
    """
    known = {*text_format.tokenizer.control_tokens, *text_format.tokenizer.special_tokens}
    for token, markup in MARKUPS.items():
        if token in known and markup.end in known:
            return markup
    raise ValueError(
        f"{where}: learn='draws' marks turns as one of {', '.join(MARKUPS)} does, and the "
        "tokenizer has none of these tokens (config.tokenizer.path)."
    )


def draw_segments(messages: Sequence[Message], markup: Markup) -> list[Segment]:
    """The text of a row, in order.

    Args:
        messages: at most one description, then inputs and outputs.
        markup: of the model.

    Returns:
        Segments: a description or an input is one; an output is three, its beginning, its content
        with the end, and what is written behind the end. The first output is not learned where no
        description stands before it.
    """
    found, known = [], False
    for role, content in ((message["role"], message["content"]) for message in messages):
        if role != "output":
            known |= role == "description"
            found.append(Segment(markup.opened(role) + content + markup.end + markup.after, False))
            continue
        found += [
            Segment(markup.opened(role), False),
            Segment(content + markup.end, known),
            Segment(markup.after, False),
        ]
        known = True
    return [segment for segment in found if segment.text]


def draws_example(
    messages: Sequence[Message], text_format: TextFormat, *, seed: Sequence[int], where: str
) -> Example:
    """The example of a row.

    Args:
        messages: of the row, any number of draws in any order.
        text_format: of the run.
        seed: of the order of the draws, and of whether the description is left out.
        where: file and row, for errors.

    Raises:
        ValueError: for another role, an input without its output, a row without an output to learn.
    """
    description, draws = _parted(messages, where)
    rng = np.random.default_rng(seed)
    rng.shuffle(draws)
    if len(draws) > 1 and rng.random() < DROPPED:
        description = []
    ordered = [*description, *(message for draw in draws for message in draw)]
    marked = text_format.control_tokens.marked(ordered, where)
    *segments, last = draw_segments(marked, markup_of(text_format, where))
    made = Example([*text_format.begin], [False] * len(text_format.begin))
    # Behind the last end no sampler ever comes.
    for segment in segments if not last.learned else [*segments, last]:
        ids = text_format.control_tokens.encode(segment.text, inside=bool(made.tokens))
        made.tokens.extend(ids)
        made.learned.extend([segment.learned] * len(ids))
    if not any(made.learned):
        raise UnusableRow(
            f"{where}: the only output has no description before it, so there is nothing to learn; "
            "give a description, or several outputs."
        )
    return made


def _parted(messages: Sequence[Message], where: str) -> tuple[list[Message], list[list[Message]]]:
    """The description, and the draws: each an output, with its input before it where it has one."""
    description: list[Message] = []
    draws: list[list[Message]] = []
    waiting: list[Message] = []
    for place, message in enumerate(messages):
        role = message["role"]
        checked_text(message.get("content"), f"{where}, message {place}: the content")
        if role not in ROLES:
            raise ValueError(
                f"{where}, message {place}: the role {role!r} is none of {', '.join(ROLES)} "
                "(data.learn='draws')."
            )
        if role == "description" and place > 0:
            raise ValueError(f"{where}, message {place}: only the first one is a description.")
        if role == "input" and waiting:
            raise ValueError(f"{where}, message {place}: the input before has no output.")
        if role == "description":
            description = [message]
        elif role == "input":
            waiting = [message]
        else:
            draws.append([*waiting, message])
            waiting = []
    if waiting or not draws:
        raise ValueError(f"{where}: a row ends with an output, and each input has one.")
    return description, draws
