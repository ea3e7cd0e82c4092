"""Checks what one field cannot know, and resolves each stage to plain values.

Everything here happens before a device is touched.
"""

import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from rljax.config.graph import given_models, resolve_graph
from rljax.config.policy_gradient import check_policy_gradient
from rljax.config.schema import DATA, Field, Section, check_stages, schema_for
from rljax.config.stage import BatchSizes, Stage
from rljax.errors import unknown_name
from rljax.objectives.advantages import NEEDS_GROUPS
from rljax.objectives.kl import warn_if_useless
from rljax.parallel.rules import check_row_length
from rljax.registry import Objective, resolve_objective
from rljax.sampling.distribution import EntropyTemperature, TokenFilter

_ROLLOUT_BATCH = {
    "prompts_per_step": 16,
    "samples_per_prompt": 8,
    "sequences_per_micro_batch": 0,
    "share_prompts": None,
}
_FILTER = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "entropy_theta": 0.0,
    "logit_bias": (),
    "forbidden_tokens": (),
}
_SAMPLING = {"max_new_tokens": 64, "stop_strings": (), **_FILTER}

# What a stage of each family reads besides the objective, with the family's defaults;
# 0 for a batch field means "all of the level above", None "where it fits".
FAMILY_FIELDS: dict[str, dict[str, dict[str, Any]]] = {
    "supervised": {
        "batch": {"sequences_per_update": 32, "sequences_per_micro_batch": 0},
        "data": {"source": "problems", "path": "", "limit": 0, "row_tokens": 256, "packed": True},
    },
    "policy_gradient": {
        "": {"reference_kl": False},
        "batch": {**_ROLLOUT_BATCH, "epochs_per_step": 1, "sequences_per_update": 0},
        "sampling": _SAMPLING,
    },
    "preference": {
        "batch": {
            "sequences_per_update": 32,
            "sequences_per_micro_batch": 0,
            "share_prompts": None,
        },
        "data": {"source": "jsonl", "path": "", "max_completion_tokens": 64},
    },
    "reward": {
        "batch": {
            "sequences_per_update": 32,
            "sequences_per_micro_batch": 0,
            "share_prompts": None,
        },
        "data": {"source": "jsonl", "path": "", "heldout_path": "", "max_completion_tokens": 64},
    },
    "evidence": {
        "": {"reference_kl": False},
        "batch": _ROLLOUT_BATCH,
        "sampling": {"max_new_tokens": 64},
        "data": {"max_answer_tokens": 16},
    },
    "evolution": {
        "batch": {"prompts_per_step": 16, "samples_per_prompt": 8},
        "sampling": {
            "max_new_tokens": 64,
            "stop_strings": (),
            "logit_bias": (),
            "forbidden_tokens": (),
        },
    },
}

# Of a stage whose objective has targets for a critic.
CRITIC_FIELDS = {
    "trunk": "separate",
    "learning_rate": 1e-3,
    "clip_norm": 1.0,
    "warmup_updates": 0,
}

# Where the stages of a family that has a choice get their data from.
SOURCES = {
    "supervised": ("problems", "jsonl", "parquet"),
    "preference": ("jsonl", "parquet", "sampled_pairs"),
    "reward": ("jsonl", "parquet"),
}

# Fields of config.data that only some kinds read.
GYM_FIELDS = (
    "tasks",
    "prompt_pattern",
    "answer_template",
    "train_seed",
    "heldout_seed",
    "train_size",
    "worked_share",
)
# Of the kind symbols, whose tasks have fields of their own.
SYMBOL_FIELDS = ("tasks", "train_seed", "heldout_seed", "train_size")
FILE_FIELDS = ("path", "heldout_path", "prompt_column", "reference_column")

# A preference stage that samples its own pairs reads these as well.
SAMPLED_PAIRS = {
    "batch": {"samples_per_prompt": 8},
    "sampling": _SAMPLING,
    "data": {"pair_prompts": 256, "placeholder_pairs": False},
}


def validate(config: ConfigDict) -> tuple[Stage, ...]:
    """Checks a complete config (config/load.py) and resolves its stages.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """
    check_stages(config.stages, config)
    _check_ranges(schema_for(tuple(config.stages)), config, "config")
    _check_data(config.data)
    _check_chat(config.tokenizer)
    return resolve_graph([resolve_stage(name, config[name]) for name in config.stages])


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


def resolve_stage(name: str, section: ConfigDict) -> Stage:
    """Resolves one stage: method row, family defaults, batch arithmetic."""
    where = f"config.{name}"
    objective = resolve_objective(section.method, section.objective.to_dict(), where)
    allowed = FAMILY_FIELDS[objective.family]
    if objective.family == "preference" and section.data.source == "sampled_pairs":
        allowed = {
            part: allowed.get(part, {}) | SAMPLED_PAIRS.get(part, {})
            for part in ("", "batch", "sampling", "data")
        }
    if objective.choices.get("value_target", "none") != "none":
        allowed = allowed | {"critic": CRITIC_FIELDS}
    values = {
        part: _read(section[part], allowed.get(part, {}), objective, f"{where}.{part}")
        for part in ("batch", "sampling", "data", "critic")
    }
    top = _read({"reference_kl": section.reference_kl}, allowed.get("", {}), objective, where)
    stage = Stage(
        name=name,
        objective=objective,
        steps=section.steps,
        reference_kl=top.get("reference_kl", False),
        batch=_batch_sizes(values["batch"], objective, f"{where}.batch"),
        token_filter=_token_filter(values["sampling"]),
        max_new_tokens=values["sampling"].get("max_new_tokens", 0),
        stop_strings=tuple(values["sampling"].get("stop_strings", ())),
        data=values["data"],
        critic=values["critic"],
        start_from=section.start_from,
        network={"head": section.network.head} if section.network.head else {},
        models=given_models(section.models, f"{where}.models"),
        optimizer={
            key: value for key, value in section.optimizer.to_dict().items() if value is not None
        },
    )
    _check_parts_fit(stage, where)
    return stage


def _token_filter(sampling: Mapping[str, Any]) -> TokenFilter:
    """What a stage samples from, and what its log-probabilities are taken under."""
    fields = {field: sampling.get(field, default) for field, default in _FILTER.items()}
    theta = fields.pop("entropy_theta")
    fields["logit_bias"] = tuple((int(token), float(add)) for token, add in fields["logit_bias"])
    fields["forbidden_tokens"] = tuple(fields["forbidden_tokens"])
    rule = EntropyTemperature(theta=theta) if theta else None
    return TokenFilter(**fields, entropy_temperature=rule)


def check_mesh(stages: tuple[Stage, ...], rows_divisor: int, evaluation_prompts: int) -> None:
    """Raises ValueError unless every batch divides over the devices that split rows."""
    sizes = {"config.evaluation.prompts_per_batch": evaluation_prompts}
    for stage in stages:
        where = f"config.{stage.name}.batch"
        shared = stage.batch.share_prompts
        group = group_size(stage.objective.family, stage.batch.rows_per_prompt, shared)
        micro = stage.batch.sequences_per_micro_batch // group
        sizes[f"{where}.sequences_per_micro_batch"] = micro
        if stage.online:
            sizes[f"{where}.prompts_per_step"] = stage.batch.prompts_per_step
    for where, rows in sizes.items():
        if rows % rows_divisor:
            raise ValueError(
                f"{rows} rows (pairs, or whole groups with share_prompts) of {where} do not divide "
                f"over the {rows_divisor} shards of rows, data x fsdp x expert ({where}, "
                "config.<stage>.batch.share_prompts, config.mesh)."
            )


def check_row_lengths(
    stages: tuple[Stage, ...], mesh_shape: Mapping[str, int], max_prompt_tokens: int
) -> None:
    """Raises ValueError unless every stage's rows divide over the mesh axis "context"."""
    for stage in stages:
        where = f"config.{stage.name}"
        if stage.objective.family == "supervised":
            slots, field = stage.data["row_tokens"], f"{where}.data.row_tokens"
        else:
            completion, field = _completion_slots(stage, where)
            group = group_size(stage.objective.family, stage.batch.rows_per_prompt, shared=True)
            completions = group if stage.batch.share_prompts else 1
            slots = max_prompt_tokens + completions * completion
            field = f"config.data.max_prompt_tokens, {field}"
        check_row_length(mesh_shape, slots, field)


def _completion_slots(stage: Stage, where: str) -> tuple[int, str]:
    """Slots of a completion in the stage's rows, and the fields that set them."""
    if stage.objective.family in ("preference", "reward"):
        return stage.data["max_completion_tokens"], f"{where}.data.max_completion_tokens"
    if stage.objective.family == "evidence":
        fields = f"{where}.sampling.max_new_tokens, {where}.data.max_answer_tokens"
        return stage.max_new_tokens + stage.data["max_answer_tokens"], fields
    return stage.max_new_tokens, f"{where}.sampling.max_new_tokens"


def _read(
    section: Any, allowed: Mapping[str, Any], objective: Objective, where: str
) -> dict[str, Any]:
    """Defaults plus what the section sets, which must be what the family reads."""
    given = {key: section[key] for key in section if section[key] is not None} if section else {}
    for key, value in given.items():
        if key not in allowed:
            raise ValueError(
                f"{where}.{key}={value!r} is never read by method {objective.method.name!r}; "
                f"fields of this section that are: {', '.join(sorted(allowed)) or 'none'} "
                f"({where}.{key})."
            )
    return {**allowed, **given}


def _batch_sizes(values: Mapping[str, int], objective: Objective, where: str) -> BatchSizes:
    family = objective.family
    shown = int(objective.choices.get("demonstrations", "none") != "none")
    prompts = values.get("prompts_per_step", 0)
    samples = values.get("samples_per_prompt", 0)
    group = samples + shown
    per_step = prompts * group
    update = values.get("sequences_per_update", 0) or per_step
    micro = values.get("sequences_per_micro_batch", 0) or update
    if prompts and per_step % update:
        raise ValueError(
            f"sequences_per_update={update} does not divide the step's {prompts} prompts x "
            f"{samples} samples{' and a demonstration' if shown else ''} = {per_step} sequences "
            f"({where}.sequences_per_update)."
        )
    if update % micro:
        raise ValueError(
            f"sequences_per_micro_batch={micro} does not divide sequences_per_update={update} "
            f"({where}.sequences_per_micro_batch)."
        )
    unit = group_size(family, group, shared=False)
    if micro % unit:
        reason = (
            "a pair is two sequences"
            if family in ("preference", "reward")
            else "a group stays whole"
        )
        raise ValueError(
            f"sequences_per_micro_batch={micro} must be a multiple of {unit}: {reason} "
            f"({where}.sequences_per_micro_batch)."
        )
    if objective.choices.get("rollouts") == "windows" and values["share_prompts"] is None:
        values = {**values, "share_prompts": False}  # samples of a prompt are not written together
    shared = _share_prompts(values, group_size(family, group, shared=True), update, micro, where)
    epochs = values.get("epochs_per_step", 1)
    return BatchSizes(prompts, samples, epochs, update, micro, shared, shown)


def group_size(family: str, rows_per_prompt: int, shared: bool) -> int:
    """Sequences that stay together in every batch of a family."""
    if family == "policy_gradient":
        return rows_per_prompt if shared else 1
    return {"preference": 2, "reward": 2, "evidence": rows_per_prompt}.get(family, 1)


def _share_prompts(
    values: Mapping[str, Any], group: int, update: int, micro: int, where: str
) -> bool:
    """Whether rows are whole groups; None in `values`: where the batch sizes allow it.

    What the mesh and the kernels allow is decided later (training/run/layout.py).
    """
    wanted = values.get("share_prompts", False)
    fits = update % group == 0 and micro % group == 0
    if wanted and not fits:
        raise ValueError(
            f"share_prompts=True needs whole groups of {group} sequences, but "
            f"sequences_per_update={update} and sequences_per_micro_batch={micro} are not both "
            f"multiples of {group} ({where}.share_prompts, {where}.sequences_per_update, "
            f"{where}.sequences_per_micro_batch)."
        )
    return fits and group > 1 if wanted is None else wanted


def _check_parts_fit(stage: Stage, where: str) -> None:
    """Refuses combinations whose parts do not work together."""
    choices, batch = stage.objective.choices, stage.batch
    if choices.get("kl_placement") == "loss":
        warn_if_useless(stage.objective.values["kl_estimator"])
    grouped = choices.get("advantage") in NEEDS_GROUPS or stage.objective.family == "evidence"
    if grouped and batch.samples_per_prompt < 2:
        baseline = choices.get("advantage") or f"bound {choices['bound']!r}"
        raise ValueError(
            f"samples_per_prompt={batch.samples_per_prompt} with a baseline over the group "
            f"({baseline}): at least 2 are needed ({where}.batch.samples_per_prompt)."
        )
    if stage.online and stage.token_filter.greedy:
        raise ValueError(
            "temperature=0 gives the same sample G times and no density to train on; it must be "
            f"> 0 ({where}.sampling.temperature)."
        )
    if stage.objective.family == "policy_gradient":
        check_policy_gradient(stage, where)
    if "source" in stage.data:
        _check_source(stage, f"{where}.data")


def _check_source(stage: Stage, where: str) -> None:
    """Whether the family can read the source, and a file is named where one is read."""
    source, path = stage.data["source"], stage.data["path"]
    sources = SOURCES[stage.objective.family]
    if source not in sources:
        raise ValueError(
            f"Method {stage.objective.method.name!r} cannot read source={source!r}; known: "
            f"{', '.join(map(repr, sources))} ({where}.source)."
        )
    from_file = source in ("jsonl", "parquet")
    if from_file and not path:
        raise ValueError(f"A {source!r} source needs a file ({where}.path).")
    if path and not from_file:
        raise ValueError(
            f"{where}.path={path!r} is never read with source={source!r}; set source='jsonl' or "
            f"'parquet' ({where}.source, {where}.path)."
        )
    if source == "sampled_pairs" and stage.data["max_completion_tokens"] < stage.max_new_tokens:
        raise ValueError(
            f"max_completion_tokens={stage.data['max_completion_tokens']} is too small for samples "
            f"of max_new_tokens={stage.max_new_tokens} ({where}.max_completion_tokens)."
        )


def _check_data(data: ConfigDict) -> None:
    """Refuses fields that problems of this kind never read, where they are not the default."""
    read = {"reasoning_gym": GYM_FIELDS, "symbols": SYMBOL_FIELDS}.get(data.kind, FILE_FIELDS)
    unread = [name for name in (*GYM_FIELDS, *FILE_FIELDS) if name not in read]
    for name in unread:
        if data[name] != DATA[name].default:
            raise ValueError(
                f"config.data.{name}={data[name]!r} is never read with kind={data.kind!r}; fields "
                f"that are: {', '.join(sorted(set(DATA) - set(unread)))} (config.data.{name})."
            )


def _check_ranges(schema: Section, section: ConfigDict, where: str) -> None:
    for name, entry in schema.items():
        value, path = section[name], f"{where}.{name}"
        if not isinstance(entry, Field):
            _check_ranges(entry, value, path)
            continue
        if value is None:
            continue
        if entry.choices and value not in entry.choices:
            raise unknown_name(name, value, entry.choices, path)
        if entry.minimum is not None and not value >= entry.minimum:
            raise ValueError(
                f"{path} must be >= {entry.minimum}, got {value} ({path}: {entry.doc})."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{path} must be finite, got {value} ({path}: {entry.doc}).")


def plain(value: Any) -> Any:
    """Nested mappings and sequences as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
