"""A step's samples by prompt, and the rows that the model runs on to score them."""

from collections.abc import Container, Sequence

import numpy as np

from rljax.config.stage import Stage
from rljax.rewards.pool import Scores
from rljax.training.collect.experience import Demonstrations, Experience
from rljax.training.collect.rollouts import Samples
from rljax.training.learner.group import Group, with_demonstrations, with_rows_beside
from rljax.training.update.rows import Rows, rollout_rows


def step_group(
    samples: Samples,
    scores: Scores,
    demonstrations: Demonstrations | None = None,
    guided: Group | None = None,
) -> Group:
    """A step's samples by prompt, with the demonstrations as one more row each, or guided samples.

    A sample that is left out has an empty mask: to all that follows it is not there.
    """
    rollouts = samples.rollouts
    shape = rollouts.mask.shape[:2]
    left_out = scores.left_out.reshape(shape)
    group = Group(
        tokens=rollouts.tokens,
        mask=rollouts.mask & ~left_out[..., None],
        logprobs=rollouts.logprobs,
        finished=rollouts.finished,
        scores=np.where(left_out, np.float32(0), scores.total.reshape(shape)),
        correct=scores.correct.reshape(shape),
    )
    if guided is not None:
        return with_rows_beside(group, guided)
    return group if demonstrations is None else with_demonstrations(group, *demonstrations)


def step_rows(samples: Samples, group: Group, stage: Stage) -> Rows:
    """The rows that the model runs on, in the layout of the stage.

    Where the temperature differs from token to token they hold what was used, not what the policy
    would use after an update: a constant of the update.
    """
    rows = rollout_rows(
        samples.prompts,
        samples.prompt_mask,
        group.tokens,
        group.mask,
        inserted_tokens(samples, group),
        share_prompts=stage.batch.share_prompts,
    )
    if stage.token_filter.entropy_temperature is not None:
        used = np.ones(group.mask.shape, np.float32)
        sampled = samples.rollouts
        used[:, : sampled.tokens.shape[1]] = np.where(sampled.mask, sampled.temperature, 1.0)
        rows["temperature"] = used.reshape(rows["mask"].shape)
    return rows


def inserted_tokens(samples: Samples, group: Group) -> np.ndarray | None:
    """[B, R, T] bool, what the rows of a group read and nobody sampled; None: there is nothing."""
    inserted = samples.rollouts.inserted
    if inserted is None:
        return None
    whole = np.zeros(group.mask.shape, bool)
    whole[:, : inserted.shape[1]] = inserted
    return whole & group.mask.any(axis=-1, keepdims=True)


def arrays_of(experience: Experience, *, version: int) -> dict[str, np.ndarray]:
    """The arrays of annotators, as far as they hold for the policy that learns from them.

    What an annotator knows of the policy that sampled (`old_logprobs`, `old_entropy`) is left out
    where that is an earlier one, or several.

    Args:
        experience: of the step.
        version: of the policy before the step.
    """
    samples = experience.samples
    if (samples.versions[samples.rollouts.mask] == version).all():
        return experience.arrays
    return {name: x for name, x in experience.arrays.items() if not name.startswith("old_")}


def composed_arrays(
    scores: Scores, weights: Sequence[float], names: Container[str]
) -> dict[str, np.ndarray]:
    """What a step's samples are worth reward by reward, as far as an objective reads it.

    Args:
        scores: of the N samples.
        weights: of the C rewards that are no constraints.
        names: of the arrays that are read.

    Returns:
        `satisfied` [N] bool, True without a constraint; `components` [N, C] f32,
        `component_applies` [N, C] bool and `component_weights` [C] f32.
    """
    found = {
        "satisfied": np.ones(len(scores.total), bool)
        if scores.satisfied is None
        else scores.satisfied,
        "components": scores.components,
        "component_applies": scores.applies,
        "component_weights": np.asarray(weights, np.float32),
    }
    return {name: array for name, array in found.items() if name in names}
