"""Messages to prompt text.

A prompt and its completion are always tokenised apart and joined as ids, in training as in
sampling: no merge ever crosses the border, so a completion's ids (and log-probabilities) do not
depend on how its prompt ends.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rljax.data.tokenizers import Tokenizer


class PlainTemplate(NamedTuple):
    """A chat template of two format strings, for tokenizers that bring none.

    Attributes:
        turn: one message; must contain "{content}", may contain "{role}".
        generation_prompt: what precedes the model's own text.
    """

    turn: str = "{role}: {content}\n"
    generation_prompt: str = "assistant: "


def render_chat(
    messages: Sequence[Mapping[str, str]],
    tokenizer: Tokenizer,
    *,
    template: PlainTemplate | None = None,
    add_generation_prompt: bool = True,
) -> str:
    """Returns the text of a conversation, ready for the model to continue.

    Args:
        messages: [{"role": ..., "content": ...}, ...].
        tokenizer: its own chat template is used when `template` is None.
        template: overrides the tokenizer's.
        add_generation_prompt: end with the opening of the model's turn.

    Raises:
        ValueError: no messages, a message without role or content, or no template anywhere.
    """
    if not messages:
        raise ValueError("A chat prompt needs at least one message (config.data.prompt_column).")
    for place, message in enumerate(messages):
        missing = [key for key in ("role", "content") if key not in message]
        if missing:
            raise ValueError(
                f"Message {place} lacks {missing}; it has {sorted(message)} "
                "(config.data.prompt_column)."
            )
    if template is None:
        if not getattr(tokenizer, "has_chat_template", False):
            raise ValueError(
                f"This tokenizer ({type(tokenizer).__name__}) has no chat template for prompts "
                "that are lists of messages; give prompts as text, or use a tokenizer that has "
                "one (config.tokenizer.path)."
            )
        plain = [dict(message) for message in messages]
        return tokenizer.render_chat(plain, add_generation_prompt=add_generation_prompt)
    if "{content}" not in template.turn:
        raise ValueError(f"PlainTemplate.turn must contain '{{content}}', got {template.turn!r}.")
    # Not str.format: a message may itself contain braces.
    head, tail = template.turn.split("{content}", 1)
    turns = [
        head.replace("{role}", m["role"]) + m["content"] + tail.replace("{role}", m["role"])
        for m in messages
    ]
    return "".join(turns) + (template.generation_prompt if add_generation_prompt else "")
