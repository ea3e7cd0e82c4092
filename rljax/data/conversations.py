"""Rows of data sets as conversations, whichever convention they follow.

A conversation is a list of {"role": ..., "content": ...}, with the further keys that templates know
(tool_calls, name, reasoning_content). ShareGPT's {"from": ..., "value": ...} is read as well, and
content that is a list with one text. Keys that are null, as Arrow fills up what other rows have,
are absent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rljax.errors import typed

Message = dict[str, Any]

# Roles of ShareGPT.
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}

# Columns that hold whole conversations.
WHOLE = ("messages", "conversations")


def is_conversation(value: Any) -> bool:
    """Whether a value is meant as one: anything that is a list."""
    return isinstance(value, list)


def read_messages(value: Any, where: str) -> list[Message]:
    """A conversation in the usual form.

    Args:
        value: of the row.
        where: file, row and column, for errors.

    Raises:
        ValueError: for an empty list, a message without role or content, an unknown role of
            ShareGPT, content that is no text.
    """
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where} must hold a list of messages, got {typed(value)}.")
    return [
        _read_message(without_nulls(message), f"{where}, message {place}")
        for place, message in enumerate(value)
    ]


def without_nulls(value: Any) -> Any:
    """The same without keys that are null, at any depth."""
    if isinstance(value, Mapping):
        return {str(k): without_nulls(each) for k, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(each) for each in value]
    return value


def _read_message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise ValueError(f"{where} must be {{'role': ..., 'content': ...}}, got {typed(message)}.")
    if "role" not in message and {"from", "value"} <= set(message):
        message = _of_sharegpt(message, where)
    if not isinstance(message.get("role"), str) or not message["role"]:
        raise ValueError(f"{where} lacks a role; it has {sorted(message)}.")
    if "content" not in message and not message.get("tool_calls"):
        raise ValueError(f"{where} lacks content; it has {sorted(message)}.")
    if "content" in message:
        message = {**message, "content": _content(message["content"], where)}
    return message


def _of_sharegpt(message: Message, where: str) -> Message:
    role = SHAREGPT_ROLES.get(message["from"]) if isinstance(message["from"], str) else None
    if role is None:
        raise ValueError(
            f"{where} is from {typed(message['from'])}; of ShareGPT's roles "
            f"{', '.join(SHAREGPT_ROLES)} are read."
        )
    rest = {key: value for key, value in message.items() if key not in ("from", "value")}
    return {**rest, "role": role, "content": message["value"]}


def _content(content: Any, where: str) -> str | list[Message]:
    """A text; of several parts the list, which only some templates take."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise ValueError(f"{where} must have a text as content, got {typed(content)}.")
    for part in content:
        if isinstance(part, str):
            continue
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            raise ValueError(
                f"{where} has content of type {kind!r}; only text is read, got {typed(part)}."
            )
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    return parts[0]["text"] if len(parts) == 1 else parts


def last_is_assistant(messages: Sequence[Message]) -> bool:
    """Whether the model itself has the last word, to be continued."""
    return messages[-1]["role"] == "assistant"


def leads_to_error(messages: Sequence[Message], place: int, phrases: Sequence[str]) -> bool:
    """Whether a tool answers a message of the assistant with an error.

    The mask of TL-Training (arXiv:2412.15495); its paper names no phrases.

    Args:
        messages: of `read_messages`.
        place: of the assistant's message.
        phrases: an answer that holds one of them, letter by letter, is an error.
    """
    for message in messages[place + 1 :]:
        if message["role"] == "assistant":
            return False
        content = message.get("content", "")
        parts = [content] if isinstance(content, str) else [part["text"] for part in content]
        if message["role"] == "tool" and any(p in text for p in phrases for text in parts):
            return True
    return False


def common_prefix(sides: Sequence[Sequence[Message]]) -> list[Message]:
    """The messages with which all conversations begin."""
    prefix = []
    for messages in zip(*sides, strict=False):
        if any(message != messages[0] for message in messages):
            break
        prefix.append(messages[0])
    return prefix
