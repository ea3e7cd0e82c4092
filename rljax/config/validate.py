"""A whole config checked and resolved to plain values, before a device is touched."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from rljax.config.data import check_data
from rljax.config.graph import resolve_graph
from rljax.config.ranges import check_ranges
from rljax.config.resolve import resolve_stage
from rljax.config.right_score import with_right_score
from rljax.config.schema import check_stages, schema_for
from rljax.config.stage import Stage


def validate(config: ConfigDict) -> tuple[Stage, ...]:
    """Checks a complete config (config/load.py) and resolves its stages.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """
    check_stages(config.stages, config)
    check_ranges(schema_for(tuple(config.stages)), config, "config")
    check_data(config.data)
    _check_chat(config.tokenizer)
    stages = [resolve_stage(name, config[name]) for name in config.stages]
    return resolve_graph([with_right_score(stage, config) for stage in stages])


def _check_chat(tokenizer: ConfigDict) -> None:
    turn = tokenizer.chat_turn
    if turn and "{content}" not in turn:
        raise ValueError(
            f"chat_turn {turn!r} must contain '{{content}}' (config.tokenizer.chat_turn)."
        )
    if tokenizer.chat_generation_prompt and not turn:
        raise ValueError(
            f"chat_generation_prompt={tokenizer.chat_generation_prompt!r} is read only with "
            "chat_turn: a tokenizer's own template opens the turn itself "
            "(config.tokenizer.chat_generation_prompt)."
        )


def resolved_dict(config: ConfigDict, stages: tuple[Stage, ...]) -> dict[str, Any]:
    """The whole config as JSON-able values, with every default and preset filled in."""
    values = config.to_dict()
    return plain({**values, **{stage.name: stage.as_dict() for stage in stages}})


def plain(value: Any) -> Any:
    """Nested mappings and sequences as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
