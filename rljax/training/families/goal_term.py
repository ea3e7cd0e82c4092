"""The goal-conditioned term of a reward model (objectives/reward_models/goal_conditioned.py)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.objectives.parts import apply
from rljax.objectives.reward_models import goal_similarities
from rljax.objectives.reward_models.goal_conditioned import DRAWS
from rljax.training.update.train_step import Batch, Metrics, split_micro_batches

# Array of a batch: the uniform draws that choose states, [B, 4, S] f32.
UNIFORMS = "goal_uniforms"


def draws_goals(stage: Stage) -> bool:
    """Whether a stage has the term."""
    return stage.objective.choices["representation"] == "goal_conditioned"


def goal_draws(stage: Stage, pairs: int, seed: Sequence[int]) -> np.ndarray:
    """[B, 4, S] f32 in [0, 1), a function of the seed.

    Args:
        stage: with the term.
        pairs: B.
        seed: of the run, and the step.
    """
    shape = (pairs, DRAWS, stage.objective.values["goal_samples"])
    return np.random.default_rng(seed).random(shape, np.float32)


class GoalTerm:
    """Similarities of states, and what the loss makes of them."""

    def __init__(self, stage: Stage) -> None:
        self.part = stage.objective.part("representation")
        self.compare = stage.objective.bind(goal_similarities)

    def loss(self, states: Array, batch: Batch, arrays: dict[str, Array]) -> tuple[Array, Metrics]:
        """The term of each pair, [B], and its metrics.

        Args:
            states: [B, 2, T + 1, D] f32, differentiated.
            batch: prepared, with the means of `of_batch`.
            arrays: by name (`REWARD_ARRAYS`).
        """
        positive, negative = self._similarities(states, batch)
        found = {"goal_positive": positive, "goal_negative": negative}
        return apply(self.part, arrays | found)

    def of_batch(
        self, states_of: Callable[[Batch], Array], batch: Batch, micro_batches: int
    ) -> Batch:
        """Mean similarities over the usable pairs of the whole batch, once for each pair.

        Args:
            states_of: a part of a batch to its states.
            batch: of an update.
            micro_batches: parts that are run one after the other.
        """

        def sums(part: Batch) -> Array:
            weights = part["weights"]
            found = self._similarities(states_of(part), part)
            return jnp.stack([jnp.sum(weights * each) for each in found] + [weights.sum()])

        totals = jax.lax.map(sums, split_micro_batches(batch, micro_batches)).sum(axis=0)
        # Without a usable pair nothing is learned: any mean between 0 and 1 will do.
        means = jnp.where(totals[2] > 0, totals[:2] / jnp.maximum(totals[2], 1e-9), 0.5)
        names = ("goal_positive_mean", "goal_negative_mean")
        count = len(batch["weights"])
        return {name: jnp.full(count, mean) for name, mean in zip(names, means, strict=True)}

    def _similarities(self, states: Array, batch: Batch) -> tuple[Array, Array]:
        lengths = batch["mask"].sum(axis=-1, dtype=jnp.int32)
        return self.compare(states, lengths, batch[UNIFORMS])
