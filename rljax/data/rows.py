"""What the columns of a row say: a prompt, its answer, an example to learn."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rljax.data.conversations import (
    WHOLE,
    Message,
    is_conversation,
    last_is_assistant,
    read_messages,
    without_nulls,
)
from rljax.data.draws import draws_example
from rljax.data.packing import Example
from rljax.data.text_format import PROMPTS, Prompt, TextFormat
from rljax.errors import typed

Record = Mapping[str, Any]


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
    value = column_of(record, column, where)
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
    error_phrases: Sequence[str] = (),
    check_whole: bool = False,
    seed: Sequence[int] = (0,),
) -> Example:
    """What is learned of a row: its completion, or the assistant's messages of a conversation.

    Args:
        record: with the columns prompt and completion, or with messages or conversations.
        text_format: of the run.
        where: file and row, for errors.
        field: the config field of the file, for errors.
        learn: "last", or "all" messages of the assistant; "draws": see data/draws.py.
        error_phrases: of "all", see `TextFormat.turns`.
        check_whole: compare the ids with those of the whole text.
        seed: of what is drawn for the row.

    Raises:
        ValueError: for a row that has neither, or that cannot be read.
        UnusableRow: for a conversation that is all errors.
    """
    whole = _whole_column(record)
    if learn == "draws":
        if whole is None:
            raise ValueError(f"{where}: learn='draws' reads the column 'messages' ({field}).")
        messages = read_messages(record[whole], f"{where}: the column {whole!r}")
        return draws_example(messages, text_format, seed=seed, where=where)
    if learn == "all" and whole:
        messages = read_messages(record[whole], f"{where}: the column {whole!r}")
        words = _extras(record, where) | {"where": where, "field": field}
        return text_format.turns(messages, error_phrases=error_phrases, **words)
    prompt, answer = answered_prompt(record, text_format, where=where, field=field)
    completion = text_format.completion(prompt, answer, where)
    if check_whole:
        text_format.check_whole(prompt, answer, completion, where)
    return joined(prompt, completion)


def answered_prompt(
    record: Record, text_format: TextFormat, *, where: str, field: str = PROMPTS
) -> tuple[Prompt, str | Message]:
    """The prompt of a row and its answer.

    Args:
        record: with the columns prompt and completion, or with messages or conversations, whose
            last message is the answer.
        text_format: of the run.
        where: file and row, for errors.
        field: the config field of the file, for errors.

    Raises:
        ValueError: for a row that has neither, or that cannot be read.
    """
    whole = _whole_column(record)
    if whole is None:
        prompt = prompt_of(record, text_format, where=where, field=field)
        value = column_of(record, "completion", where)
        return prompt, answer_of(value, prompt, f"{where}: the completion")
    messages = read_messages(record[whole], f"{where}: the column {whole!r}")
    if not last_is_assistant(messages) or len(messages) < 2:
        raise ValueError(
            f"{where}: the column {whole!r} must end with the assistant's answer to somebody "
            f"({field})."
        )
    extras = _extras(record, where)
    return text_format.prompt(messages[:-1], **extras, where=where, field=field), messages[-1]


def _whole_column(record: Record) -> str | None:
    """The column that holds a whole conversation, where no other one holds the prompt."""
    if record.get("prompt") is not None:
        return None
    return next((name for name in WHOLE if record.get(name) is not None), None)


def joined(prompt: Prompt, completion: list[int]) -> Example:
    """A prompt and the completion that is learned."""
    learned = [False] * len(prompt.tokens) + [True] * len(completion)
    return Example([*prompt.tokens, *completion], learned)


def answer_of(value: Any, prompt: Prompt, where: str) -> str | Message:
    """A text, or the one message of the assistant.

    Args:
        value: of a completion's column.
        prompt: that it answers.
        where: file, row and column, for errors.

    Raises:
        ValueError: for several messages, one of somebody else, a message that answers a text.
    """
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


def column_of(record: Record, name: str, where: str) -> Any:
    """The value of a column; raises ValueError where it is absent or null."""
    if record.get(name) is None:
        raise ValueError(
            f"{where} lacks the column {name!r}; it has "
            f"{sorted(key for key, value in record.items() if value is not None)}."
        )
    return record[name]


def _extras(record: Record, where: str) -> dict[str, Any]:
    """Tools and variables of the template; JSON text, as hubs hold them, is read."""
    return {
        "tools": nested(record.get("tools"), list, f"{where}: the column 'tools'"),
        "options": nested(
            record.get("chat_template_kwargs"), dict, f"{where}: the column 'chat_template_kwargs'"
        ),
    }


def nested(value: Any, kind: type, where: str) -> Any:
    """A value of several levels, without nulls; one that is JSON text, as hubs hold them, is read.

    Args:
        value: of a column.
        kind: list or dict.
        where: file, row and column, for errors.

    Raises:
        ValueError: for text that is no JSON, or a value of another kind.
    """
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{where} is no JSON: {error}.") from error
    value = without_nulls(value or None)
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{where} must be a {kind.__name__}, got {typed(value)}.")
    return value
