"""A whole config checked and resolved to plain values, before a device is touched."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from rljax.config.asynchronous import check_asynchronous
from rljax.config.composition import check_composition
from rljax.config.data import check_data
from rljax.config.decoding import check_evaluation
from rljax.config.environment import check_environment
from rljax.config.fields import check_fields
from rljax.config.graph import resolve_graph
from rljax.config.resolve import resolve_stage
from rljax.config.right_score import with_right_score
from rljax.config.schema import check_stages, schema_for
from rljax.config.stage import Stage
from rljax.config.unknown import check_family
from rljax.data.chat import PlainTemplate, read_clock, template_options


def validate(config: ConfigDict) -> tuple[Stage, ...]:
    """Checks a complete config (config/load.py) and resolves its stages.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """
    check_stages(config.stages, config)
    check_fields(schema_for(tuple(config.stages)), config, "config")
    check_data(config.data)
    check_evaluation(config.evaluation)
    if not config.name or "/" in config.name or config.name in (".", ".."):
        raise ValueError(f"name must be that of a folder, got {config.name!r} (config.name).")
    _check_chat(config.tokenizer)
    for name in config.stages:
        check_family(name, config)
    stages = [resolve_stage(name, config[name]) for name in config.stages]
    stages = resolve_graph([with_right_score(stage, config) for stage in stages])
    check_composition(config, stages)
    check_asynchronous(config, stages)
    check_environment(config, stages)
    return stages


def _check_chat(tokenizer: ConfigDict) -> None:
    """Raises ValueError for fields of chat templates that cannot work."""
    if tokenizer.chat_turn:
        PlainTemplate(tokenizer.chat_turn)
    elif tokenizer.chat_generation_prompt:
        raise ValueError(
            f"chat_generation_prompt={tokenizer.chat_generation_prompt!r} is read only with "
            "chat_turn: a tokenizer's own template opens the turn itself "
            "(config.tokenizer.chat_generation_prompt)."
        )
    read_clock(tokenizer.clock)
    template_options(tokenizer.template_options)


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
