"""--config=FILE[:ARG] and --config.a.b=value to a complete, locked ConfigDict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, config_dict

from rljax.config.arguments import SMOKE, call_get_config
from rljax.config.fields import Field, Section, checked
from rljax.config.overrides import apply_overrides
from rljax.config.schema import check_stages, schema_for
from rljax.config.unknown import unknown_field
from rljax.errors import shown
from rljax.registry import FAMILIES, METHODS, Method
from rljax.user_modules import errors_located, import_file


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
    if not isinstance(sparse, Mapping | ConfigDict):
        raise ValueError(f"A config is a ConfigDict or a dict, got {shown(sparse)} (get_config).")
    values = sparse.to_dict() if isinstance(sparse, ConfigDict) else dict(sparse)
    check_stages(values.get("stages", ()), values)
    values = _plain(values)
    return ConfigDict(_fill(schema_for(tuple(values["stages"])), values, "config", values)).lock()


def _plain(value: Any) -> Any:
    """Sections that are a ConfigDict inside a dict, as dicts."""
    if isinstance(value, ConfigDict):
        return value.to_dict()
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def shorten(config: ConfigDict) -> None:
    """Makes any config run in seconds: few steps, small batches, the same code paths."""
    for stage in config.stages:
        section = config[stage]
        section.steps = min(section.steps, 2)
        _shorten_batch(section)
        if section.data.source in ("sampled_pairs", "sampled_labels"):
            section.data.placeholder_pairs = True
            section.data.rounds = min(section.data.rounds or 1, section.steps)
            section.data.pair_prompts = min(section.data.pair_prompts or 32, 32)
        if section.data.source == "sampled":
            section.data.keep = "best"  # a policy that knows nothing is never right
            section.data.hint_pattern = None
            section.data.sampled_prompts = min(section.data.sampled_prompts or 32, 32)
        if "heldout_limit" in _read_of_data(section):
            section.data.heldout_limit = min(section.data.heldout_limit or 8, 8)
        row = METHODS.get(section.method)
        if row is not None and _chosen(section, row, "reference_update") not in (None, "none"):
            section.objective.reference_update_steps = 1
        section.optimizer.warmup_updates = min(section.optimizer.warmup_updates, 1)
        if section.critic.warmup_updates is not None:
            section.critic.warmup_updates = min(section.critic.warmup_updates, 1)
    if config.data.kind in ("reasoning_gym", "symbols", "environment"):
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
        if _chosen(section, row, "off_policy") == "demonstrations":
            batch.samples_per_prompt = 1  # a prompt has one
        if _chosen(section, row, "rollouts") == "tree":
            section.objective.branching = (2, 2)  # four leaves
            batch.samples_per_prompt = 4
        if _chosen(section, row, "rollouts") == "search":
            section.objective.segment_tokens = section.objective.search_width = 4
        demonstrations = _chosen(section, row, "demonstrations")
        shown = demonstrations in ("switch", "in_group")
        group = batch.samples_per_prompt + shown
        if demonstrations == "guided":  # as many again
            group = 2 * batch.samples_per_prompt
        update = batch.prompts_per_step * group // (2 if several else 1)
    elif given[1] is not None:
        batch.samples_per_prompt = min(given[1], 4)
    if given[2] is not None:
        batch.sequences_per_update = update
    if batch.sequences_per_micro_batch is not None:
        batch.sequences_per_micro_batch = (batch.sequences_per_update or update) // 2


def _read_of_data(section: ConfigDict) -> Mapping[str, Any]:
    """The fields of `data` that a stage's family reads."""
    row = METHODS.get(section.method)
    return {} if row is None else FAMILIES[row.family].reads.data


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
        return call_get_config(module.get_config, argument, path)


def _fill(
    schema: Section, values: Mapping[str, Any], where: str, config: Mapping[str, Any]
) -> dict[str, Any]:
    """A section with a value for every field.

    Args:
        schema: of the section.
        values: what the config says of it.
        where: its path, for errors.
        config: all that the config says.
    """
    for name in values:
        if name not in schema:
            raise unknown_field(name, schema, where, config)
    filled: dict[str, Any] = {}
    for name, entry in schema.items():
        path, value = f"{where}.{name}", values.get(name)
        if isinstance(entry, Field):
            given = checked(entry, values.get(name, entry.default), path)
            filled[name] = config_dict.placeholder(entry.kind) if given is None else given
        elif value is None or isinstance(value, Mapping):
            filled[name] = _fill(entry, value or {}, path, config)
        else:
            raise ValueError(f"{path} is a section, got {shown(value)} ({path}).")
    return filled
