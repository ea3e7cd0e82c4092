"""--config=FILE[:ARG] and --config.a.b=value to a complete, locked ConfigDict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from rljax.config.schema import Field, Section, check_stages, schema_for
from rljax.errors import unknown_name
from rljax.registry import FAMILIES, METHODS, Method
from rljax.user_modules import errors_located, import_file

SMOKE = "smoke"


def load_config(file_and_arg: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Loads a config file, fills in defaults and applies overrides.

    Args:
        file_and_arg: "configs/quickstart.py" or "configs/quickstart.py:arg1,arg2". The file's
            `get_config(arg)` gets the arguments; `smoke` is taken out and shortens any config.
        overrides: command-line words such as "--config.seed=1".

    Returns:
        The complete config, locked. It is not validated yet (config/validate.py).

    Raises:
        ValueError: no such file, a file without get_config, an unknown or mistyped field.
    """
    path, _, argument = str(file_and_arg).partition(":")
    arguments = [word for word in argument.split(",") if word]
    sparse = _run_file(path, ",".join(word for word in arguments if word != SMOKE))
    config = complete(sparse)
    if SMOKE in arguments:
        shorten(config)
    return apply_overrides(config, overrides)


def complete(sparse: Mapping[str, Any]) -> ConfigDict:
    """Puts a config file's values over the schema's defaults; every unknown field is an error."""
    values = sparse.to_dict() if isinstance(sparse, ConfigDict) else dict(sparse)
    check_stages(values.get("stages", ()), values)
    return ConfigDict(_fill(schema_for(tuple(values["stages"])), values, "config")).lock()


def apply_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Applies "--config.a.b=value" words; ml_collections parses and type-checks the values."""
    for word in overrides:
        _check_override(config, word)
    words = ["rljax", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=words)
    try:
        values(words)
    except (flags.Error, TypeError, ValueError) as error:
        raise ValueError(f"Cannot apply {list(overrides)}: {error}") from error
    return values["config"].value


def shorten(config: ConfigDict) -> None:
    """Makes any config run in seconds: few steps, small batches, the same code paths."""
    for stage in config.stages:
        section = config[stage]
        section.steps = min(section.steps, 2)
        _shorten_batch(section)
        if section.data.source == "sampled_pairs":
            section.data.placeholder_pairs = True
        if section.data.pair_prompts is not None:
            section.data.pair_prompts = min(section.data.pair_prompts, 32)
        section.optimizer.warmup_updates = min(section.optimizer.warmup_updates, 1)
        if section.critic.warmup_updates is not None:
            section.critic.warmup_updates = min(section.critic.warmup_updates, 1)
    if config.data.kind in ("reasoning_gym", "symbols"):
        config.data.train_size = min(config.data.train_size, 64)
    config.data.heldout_size = min(config.data.heldout_size, 8)
    config.evaluation.prompts_per_batch = min(config.evaluation.prompts_per_batch, 8)
    config.evaluation.samples_per_prompt = min(config.evaluation.samples_per_prompt, 4)
    config.evaluation.every_steps = 0
    config.checkpoint.every_steps = 1


def _shorten_batch(section: ConfigDict) -> None:
    """At most 8 prompts x 4 samples a step, or 16 sequences; several updates stay two."""
    batch, row = section.batch, METHODS.get(section.method)
    given = (batch.prompts_per_step, batch.samples_per_prompt, batch.sequences_per_update)
    update = 16
    if row is not None and FAMILIES[row.family].online:
        several = None not in given and given[0] * given[1] > given[2]
        batch.prompts_per_step = min(given[0] or 8, 8)
        batch.samples_per_prompt = min(given[1] or 4, 4)
        if _chosen(section, row, "rollouts") == "tree":
            section.objective.branching = (2, 2)  # four leaves
            batch.samples_per_prompt = 4
        shown = _chosen(section, row, "demonstrations") not in (None, "none")
        group = batch.samples_per_prompt + shown
        update = batch.prompts_per_step * group // (2 if several else 1)
    elif given[1] is not None:
        batch.samples_per_prompt = min(given[1], 4)
    if given[2] is not None:
        batch.sequences_per_update = update
    if batch.sequences_per_micro_batch is not None:
        batch.sequences_per_micro_batch = (batch.sequences_per_update or update) // 2


def _chosen(section: ConfigDict, row: Method, choice: str) -> str | None:
    """What a stage's objective says of a choice, or its method's row."""
    return section.objective.get(choice) or row.parts.get(choice)


def _run_file(path: str, argument: str) -> ConfigDict:
    if not Path(path).is_file():
        raise ValueError(
            f"No config file {path!r}; give a Python file with get_config (--config=FILE[:ARG])."
        )
    module = import_file(path, field="--config", again=True)
    if not hasattr(module, "get_config"):
        raise ValueError(f"{path} has no function get_config(arg) (--config=FILE[:ARG]).")
    with errors_located(path, field="--config", leave=(ValueError,)):  # a config's own refusals
        return module.get_config(argument)


def _fill(schema: Section, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name in values:
        if name not in schema:
            raise unknown_name("field", name, schema, f"{where}.{name}")
    filled: dict[str, Any] = {}
    for name, entry in schema.items():
        if not isinstance(entry, Field):
            section = values.get(name) or {}
            if not isinstance(section, Mapping):
                raise ValueError(f"{where}.{name} is a section, got {section!r} ({where}.{name}).")
            filled[name] = _fill(entry, section, f"{where}.{name}")
            continue
        value = _typed(entry, values.get(name, entry.default), f"{where}.{name}")
        filled[name] = config_dict.placeholder(entry.kind) if value is None else value
    return filled


def _typed(field: Field, value: Any, where: str) -> Any:
    """The value in the field's type: whole numbers pass as floats, lists as tuples."""
    if value is None:
        return None
    if field.kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if field.kind is tuple and isinstance(value, list):
        return tuple(value)
    if not isinstance(value, field.kind) or (field.kind is int and isinstance(value, bool)):
        raise ValueError(
            f"{where} must be {field.kind.__name__}, got {value!r} ({where}: {field.doc})."
        )
    return value


def _check_override(config: ConfigDict, word: str) -> None:
    if not word.startswith("--config."):
        raise ValueError(f"Unknown argument {word!r}; overrides read --config.a.b=value.")
    node, path = config, "config"
    for name in word.removeprefix("--config.").split("=", 1)[0].split("."):
        if not isinstance(node, ConfigDict) or name not in node:
            known = node.keys() if isinstance(node, ConfigDict) else ()
            raise unknown_name("field", name, known, f"{path}.{name}")
        node, path = node[name], f"{path}.{name}"
