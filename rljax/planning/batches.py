"""The rows that a step scores and learns from, by family: their shapes only."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rljax.config.stage import Stage
from rljax.planning.further_calls import has_single_rows
from rljax.planning.lengths import lengths_of
from rljax.training.families import Family, labelled_rows, preference_rows
from rljax.training.families.distillation import BEHAVIOR, TEACHER_IDS, told_rows
from rljax.training.families.feedback import completions_per_row, no_targets
from rljax.training.learner.group import Group, step_arrays
from rljax.training.learner.needs import running_statistics
from rljax.training.run.context import Context
from rljax.training.run.models import members_of
from rljax.training.update.likelihood import draws, likelihood_rows
from rljax.training.update.logprobs import FILL_STEPS, LIKELIHOOD_EPOCH
from rljax.training.update.rows import (
    Rows,
    completion_rows,
    lead_with_prompts,
    rollout_rows,
)
from rljax.training.update.state import TrainState

Made = tuple[Rows, Rows]


def step_rows(
    context: Context, stage: Stage, family: Family, state: TrainState, params: Any
) -> Made:
    """The rows that the passes before an update score, and the batch of an update.

    Args:
        context: of the stage.
        stage: of a family that can be planned.
        family: of the stage.
        state: described.
        params: all parameters, described.
    """
    return MAKERS[stage.objective.family](context, stage, family, state, params)


def _sample_rows(
    context: Context, stage: Stage, family: Family, state: TrainState, params: Any
) -> Made:
    """The rows of a step of samples, and an update's with their scores."""
    sizes = stage.batch
    groups = (sizes.prompts_per_step, sizes.rows_per_prompt)
    if has_single_rows(stage):
        groups = (sizes.sequences_per_step, 1)
    prompts = np.zeros((groups[0], lengths_of(context, stage).prompt), np.int32)
    shape = (*groups, stage.max_new_tokens)
    flags, numbers = np.zeros(shape[:2], bool), np.zeros(shape[:2], np.float32)
    tokens, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
    group = Group(tokens, mask, np.zeros(shape, np.float32), flags, numbers, flags)
    if sizes.rows_beside:
        group = group._replace(demonstration=flags)
    rows = rollout_rows(prompts, prompts > 0, tokens, mask, share_prompts=sizes.share_prompts)
    rows |= _keys(stage, rows)
    if stage.objective.values.get("masking") == "trajectory":
        rows[FILL_STEPS] = np.zeros(rows["mask"].shape, np.int32)
    reference = params if stage.needs_reference else None

    def learned(params: Any, carried: Any, reference: Any, rows: Rows, group: Group) -> Rows:
        arrays = step_arrays(group) | _annotated(context, stage, group)
        if family.learner.reads_rows(reference, arrays):
            arrays |= family.learner.annotate(params, carried, reference, rows, arrays)
        running = {name: carried[name] for name in running_statistics(stage)}
        compared = family.learner.compare(arrays, running, 0, family.noise_key, 0)
        whole = family.learner.whole_batch(rows, compared.trained)
        numbers = {"row": jnp.zeros(rows["mask"].shape[:-1], jnp.int32)}
        return whole | numbers | ({LIKELIHOOD_EPOCH: numbers["row"]} if draws(stage) else {})

    batch = jax.eval_shape(learned, params, state.carried, reference, rows, group)
    part = sizes.sequences_per_step // sizes.sequences_per_update
    return rows, jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((x.shape[0] // part, *x.shape[1:]), x.dtype), batch
    )


def _annotated(context: Context, stage: Stage, group: Group) -> dict[str, np.ndarray]:
    """What is known of samples besides their scores (training/collect/), [N] or [N, C]."""
    numbers, names = np.zeros(group.scores.size, np.float32), []
    names += {"greedy_scores", "base_scores"} & stage.objective.inputs
    if stage.objective.choices["allocation"] == "successive":
        names += ["pool_means", "pool_deviations"]
    weights = np.asarray(context.scorer.composition.weights, np.float32)
    by_reward = {
        "satisfied": numbers > 0,
        "components": np.zeros((len(numbers), len(weights)), np.float32),
        "component_applies": np.zeros((len(numbers), len(weights)), bool),
        "component_weights": weights,
    }
    found = {name: x for name, x in by_reward.items() if name in stage.objective.inputs}
    if has_single_rows(stage):
        found["group_ids"] = np.zeros(numbers.shape, np.int32)
    return dict.fromkeys(names, numbers) | found


def _thought_rows(context: Context, stage: Stage, *_: Any) -> Made:
    """Rows of thoughts with the reference answer behind them (training/families/evidence.py)."""
    sizes = stage.batch
    groups = (sizes.prompts_per_step, sizes.samples_per_prompt)
    tokens = np.zeros((*groups, stage.max_new_tokens + stage.data["max_answer_tokens"]), np.int32)
    prompts = _prompts(context, groups[0])
    rows = rollout_rows(prompts, prompts > 0, tokens, tokens > 0, share_prompts=sizes.share_prompts)
    rows |= {"thought_mask": rows["mask"], "answer_mask": rows["mask"]}
    learned = rows
    if stage.needs_reference:
        learned = rows | {"ref_logprobs": np.zeros(rows["mask"].shape, np.float32)}
    flags, numbers = np.zeros(groups, bool), np.zeros(groups, np.float32)
    return rows, lead_with_prompts(learned, groups[1]) | {
        "format_ok": flags,
        "present": flags,
        "reasoning_advantages": numbers,
        "format_advantages": numbers,
        "weights": numbers[:, 0],
        **({"solved": flags[:, 0]} if stage.objective.choices["verifier"] != "none" else {}),
    }


def _distilled_rows(context: Context, stage: Stage, *_: Any) -> Made:
    """Completions behind their prompts, and what the teacher reads where that is more."""
    sizes, teacher_context = stage.batch, stage.objective.choices["teacher_context"]
    prompts = _prompts(context, sizes.prompts_per_step)
    shape = (sizes.prompts_per_step, sizes.samples_per_prompt, stage.max_new_tokens)
    tokens = np.zeros(shape, np.int32)
    layout = functools.partial(rollout_rows, share_prompts=sizes.share_prompts)
    rows = layout(prompts, prompts > 0, tokens, tokens > 0)
    learned = rows | {"weights": np.zeros(rows["mask"].shape, np.float32)}
    if stage.objective.choices["correction"] != "none":
        learned[BEHAVIOR] = np.zeros(rows["mask"].shape, np.float32)
    if members_of(stage, "teacher"):
        learned[TEACHER_IDS] = np.zeros(len(rows["mask"]), np.int32)
    if teacher_context != "same":
        more = np.pad(prompts, ((0, 0), (stage.data["max_context_tokens"], 0)))
        learned |= told_rows(layout(more, more > 0, tokens, tokens > 0))
    return rows, learned


def _pair_rows(context: Context, stage: Stage, *_: Any) -> Made:
    """Rows of pairs, or of several completions, with what the reference says of them."""
    sides = completions_per_row(stage)
    pairs = stage.batch.sequences_per_update // sides
    prompts = _prompts(context, pairs)
    tokens = np.zeros((pairs, sides, stage.data["max_completion_tokens"]), np.int32)
    rows = rollout_rows(
        prompts, prompts > 0, tokens, tokens > 0, share_prompts=stage.batch.share_prompts
    )
    rows |= _keys(stage, rows)
    batch = lead_with_prompts(rows, sides) | {"weights": np.zeros(pairs, np.float32)}
    batch |= preference_rows.no_targets(stage, pairs)
    if stage.needs_reference:
        batch["ref_sequence_logprobs"] = np.zeros((pairs, sides), np.float32)
    if "ref_logprobs" in stage.objective.inputs:
        batch["ref_logprobs"] = np.zeros(tokens.shape, np.float32)
    known = {"usable": np.ones(pairs, bool), "mean_chosen_length": np.ones(pairs, np.float32)}
    batch |= {name: known[name] for name in known if name in stage.objective.inputs}
    return rows, batch


def _labelled_rows(context: Context, stage: Stage, *_: Any) -> Made:
    """Rows of labelled completions, with what the reference says of them."""
    count = stage.batch.sequences_per_update
    prompts = _prompts(context, count)
    tokens = np.zeros((count, stage.data["max_completion_tokens"]), np.int32)
    rows = completion_rows(prompts, prompts > 0, tokens, tokens > 0)
    numbers = np.zeros(count, np.float32)
    batch = rows | {"ref_sequence_logprobs": numbers, "weights": numbers}
    if "ref_logprobs" in stage.objective.inputs:
        batch["ref_logprobs"] = np.zeros(tokens.shape, np.float32)
    batch |= labelled_rows.no_targets(stage, count)
    known = ("kl_baseline", "step_baseline", "reward_shift")
    return rows, batch | {name: numbers for name in known if name in stage.objective.inputs}


def _feedback_rows(context: Context, stage: Stage, *_: Any) -> Made:
    """Rows of completions that a reward model learns from, with what is said of them."""
    count = completions_per_row(stage)
    prompts = stage.batch.sequences_per_update // count
    tokens = np.zeros((prompts, count, stage.data["max_completion_tokens"]), np.int32)
    ids = _prompts(context, prompts)
    share = stage.batch.share_prompts
    rows = rollout_rows(ids, ids > 0, tokens, tokens > 0, share_prompts=share)
    learned = lead_with_prompts(rows, count) | no_targets(stage, prompts)
    return rows, learned | {"weights": np.zeros(prompts, np.float32)}


def _packed_rows(context: Context, stage: Stage, *_: Any) -> Made:
    """Rows of packed demonstrations, each row full."""
    shape = (stage.batch.sequences_per_update, stage.data["row_tokens"])
    numbers, mask = np.zeros(shape, np.int32), np.zeros((shape[0], shape[1] - 1), bool)
    rows = {"tokens": numbers, "positions": numbers, "segment_ids": numbers, "mask": mask}
    rows |= _keys(stage, rows)
    return rows, rows | {"weights": np.zeros(mask.shape, np.float32)}


def _keys(stage: Stage, rows: Rows) -> Rows:
    """The keys of rows whose likelihood draws masks."""
    if not draws(stage):
        return {}
    ids = np.zeros(len(rows["mask"]), np.int32)
    return likelihood_rows(0, 0, ids, ids)


def _prompts(context: Context, count: int) -> np.ndarray:
    return np.zeros((count, context.config.data.max_prompt_tokens), np.int32)


MAKERS: dict[str, Callable[..., Made]] = {
    "policy_gradient": _sample_rows,
    "evidence": _thought_rows,
    "distillation": _distilled_rows,
    "preference": _pair_rows,
    "unpaired": _labelled_rows,
    "reward": _feedback_rows,
    "supervised": _packed_rows,
}
