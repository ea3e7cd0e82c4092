"""What the columns of a row say: a prompt, an example to learn, a pair to compare."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from rljax.data.conversations import (
    WHOLE,
    Message,
    common_prefix,
    is_conversation,
    last_is_assistant,
    read_messages,
    without_nulls,
)
from rljax.data.packing import Example
from rljax.data.text_format import PROMPTS, Prompt, TextFormat
from rljax.errors import typed

Record = Mapping[str, Any]

# Columns of a pair, in the order of the sides; the first one is preferred.
SIDES = ("chosen", "rejected")


class Pair(NamedTuple):
    """Two answers to a prompt, as ids with their ends; the first one is preferred."""

    prompt: list[int]
    sides: tuple[list[int], list[int]]


def reference_columns(name: str) -> tuple[str, ...]:
    """The columns that `config.data.reference_column` names: one, or several with commas."""
    return tuple(part.strip() for part in name.split(","))


def reference_of(record: Record, name: str) -> Any:
    """What the rewards compare with: the value of one column, or a mapping of several.

    Args:
        record: of a source, with all of these columns.
        name: see `reference_columns`.
    """
    columns = reference_columns(name)
    if len(columns) == 1:
        return record[columns[0]]
    return {column: record[column] for column in columns}


def prompt_of(
    record: Record,
    text_format: TextFormat,
    *,
    where: str,
    column: str = "prompt",
    field: str = PROMPTS,
) -> Prompt:
    """The prompt of a row, with its tools and variables of the template.

    Args:
        record: of a source.
        text_format: of the run.
        where: file and row, for errors.
        column: of the prompt.
        field: the config field or flag that errors name.

    Raises:
        ValueError: for a prompt that cannot be read.
    """
    value = _column(record, column, where)
    if column in WHOLE and is_conversation(value):
        if last_is_assistant(read_messages(value, f"{where}: the column {column!r}")):
            raise ValueError(
                f"{where}: the column {column!r} holds a conversation that has been answered; a "
                "prompt ends with the user's message. An answer that is to be continued stands in "
                f"a column of another name ({field})."
            )
    return text_format.prompt(value, **_extras(record, where), where=where, field=field)


def example_of(
    record: Record,
    text_format: TextFormat,
    *,
    where: str,
    field: str = PROMPTS,
    learn: str = "last",
    check_whole: bool = False,
) -> Example:
    """What is learned of a row: its completion, or the assistant's messages of a conversation.

    Args:
        record: with the columns prompt and completion, or with messages or conversations.
        text_format: of the run.
        where: file and row, for errors.
        field: the config field of the file, for errors.
        learn: "last", or "all" messages of the assistant.
        check_whole: compare the ids with those of the whole text.

    Raises:
        ValueError: for a row that has neither, or that cannot be read.
    """
    whole = next((name for name in WHOLE if record.get(name) is not None), None)
    if record.get("prompt") is None and whole is not None:
        messages = read_messages(record[whole], f"{where}: the column {whole!r}")
        if learn == "all":
            extras = _extras(record, where)
            return text_format.turns(messages, **extras, where=where, field=field)
        if not last_is_assistant(messages) or len(messages) < 2:
            raise ValueError(
                f"{where}: the column {whole!r} must end with the assistant's answer to somebody "
                f"({field})."
            )
        extras = _extras(record, where)
        prompt = text_format.prompt(messages[:-1], **extras, where=where, field=field)
        answer = messages[-1]
    else:
        prompt = prompt_of(record, text_format, where=where, field=field)
        answer = _answer(_column(record, "completion", where), prompt, f"{where}: the completion")
    completion = text_format.completion(prompt, answer, where)
    if check_whole:
        text_format.check_whole(prompt, answer, completion, where)
    return joined(prompt, completion)


def joined(prompt: Prompt, completion: list[int]) -> Example:
    """A prompt and the completion that is learned."""
    learned = [False] * len(prompt.tokens) + [True] * len(completion)
    return Example([*prompt.tokens, *completion], learned)


def pair_of(
    record: Record,
    text_format: TextFormat,
    *,
    where: str,
    field: str = PROMPTS,
    check_whole: bool = False,
) -> Pair:
    """The pair of a row: as ids, as texts, as messages, or as two conversations.

    Args:
        record: with the columns chosen and rejected, and prompt unless these are conversations that
            begin alike. Columns prompt_tokens, chosen_tokens and rejected_tokens are taken as they
            are.
        text_format: of the run.
        where: file and row, for errors.
        field: the config field of the file, for errors.
        check_whole: compare the ids with those of the whole texts.

    Raises:
        ValueError: for a row that cannot be read.
    """
    if all(isinstance(record.get(f"{name}_tokens"), list) for name in ("prompt", *SIDES)):
        prompt, *sides = (list(record[f"{name}_tokens"]) for name in ("prompt", *SIDES))
        return Pair(prompt, tuple(sides))
    sides = [_column(record, side, where) for side in SIDES]
    if all(map(is_conversation, sides)):
        record, sides = _parted(record, sides, where)
    prompt = prompt_of(record, text_format, where=where, field=field)
    answers = [
        _answer(value, prompt, f"{where}: {side}") for side, value in zip(SIDES, sides, strict=True)
    ]
    ids = tuple(text_format.completion(prompt, answer, where) for answer in answers)
    if check_whole:
        for answer, completion in zip(answers, ids, strict=True):
            text_format.check_whole(prompt, answer, completion, where)
    return Pair(prompt.tokens, ids)


def _parted(record: Record, sides: list[Any], where: str) -> tuple[Record, list[Any]]:
    """Two whole conversations: what they share is the prompt, what follows the answers."""
    read = [
        read_messages(value, f"{where}: {side}") for side, value in zip(SIDES, sides, strict=True)
    ]
    if all(len(messages) == 1 for messages in read):
        return record, read
    shared = common_prefix([messages[:-1] for messages in read])
    if not shared:
        raise ValueError(f"{where}: the conversations chosen and rejected begin differently.")
    given = record.get("prompt")
    if is_conversation(given):
        given = read_messages(given, f"{where}: the prompt")
    if given not in (None, shared, shared[-1].get("content")):
        raise ValueError(
            f"{where}: the prompt is not that of the conversations chosen and rejected: "
            f"{repr(given)[:80]}."
        )
    return {**record, "prompt": shared}, [messages[len(shared) :] for messages in read]


def _answer(value: Any, prompt: Prompt, where: str) -> str | Message:
    """A text, or the one message of the assistant."""
    if not is_conversation(value):
        return value
    messages = read_messages(value, where)
    if len(messages) != 1 or not last_is_assistant(messages):
        raise ValueError(
            f"{where} must be a text or one message of the assistant, got the roles "
            f"{[message['role'] for message in messages]}."
        )
    if prompt.messages is None:
        raise ValueError(f"{where} is a message, and the prompt is a text: give both alike.")
    return messages[0]


def _column(record: Record, name: str, where: str) -> Any:
    if record.get(name) is None:
        raise ValueError(
            f"{where} lacks the column {name!r}; it has "
            f"{sorted(key for key, value in record.items() if value is not None)}."
        )
    return record[name]


def _extras(record: Record, where: str) -> dict[str, Any]:
    """Tools and variables of the template; JSON text, as hubs hold them, is read."""
    return {
        "tools": _nested(record.get("tools"), list, f"{where}: the column 'tools'"),
        "options": _nested(
            record.get("chat_template_kwargs"), dict, f"{where}: the column 'chat_template_kwargs'"
        ),
    }


def _nested(value: Any, kind: type, where: str) -> Any:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{where} is no JSON: {error}.") from error
    value = without_nulls(value or None)
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{where} must be a {kind.__name__}, got {typed(value)}.")
    return value
