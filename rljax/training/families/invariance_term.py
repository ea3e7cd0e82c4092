"""The length-invariance term of a reward model (objectives/reward_models/invariance.py)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from rljax.config.stage import Stage
from rljax.objectives.parts import apply
from rljax.objectives.reward_models import length_discrepancy
from rljax.training.update.sequence_scores import last_states
from rljax.training.update.train_step import Batch, Metrics, split_micro_batches


class InvarianceTerm:
    """Discrepancy of states between bins of lengths, over the whole batch."""

    def __init__(self, stage: Stage) -> None:
        self.part = stage.objective.part("representation")
        self.discrepancy = stage.objective.bind(length_discrepancy)

    def loss(self, states: Array, batch: Batch, arrays: dict[str, Array]) -> tuple[Array, Metrics]:
        """The term of each pair, [B], and its metrics.

        Args:
            states: [B, 2, T + 1, D] f32, differentiated.
            batch: prepared, with what `of_batch` adds.
            arrays: by name (`REWARD_ARRAYS`).
        """
        found = {"end_states": last_states(states, batch["mask"]).astype(jnp.float32)}
        known = {name: batch[name] for name in ("invariance_slopes", "invariance")}
        return apply(self.part, arrays | found | known)

    def of_batch(
        self, states_of: Callable[[Batch], Array], batch: Batch, micro_batches: int
    ) -> Batch:
        """The term over the usable pairs of the whole batch, and its slopes at each pair.

        Args:
            states_of: a part of a batch to its states.
            batch: of an update.
            micro_batches: parts that are run one after the other.
        """

        def ends(part: Batch) -> Array:
            return last_states(states_of(part), part["mask"]).astype(jnp.float32)

        found = jax.lax.map(ends, split_micro_batches(batch, micro_batches))
        states = found.swapaxes(0, 1).reshape(-1, *found.shape[2:])
        lengths = batch["mask"].sum(axis=-1, dtype=jnp.int32)
        weights = batch["weights"]
        value, slopes = jax.value_and_grad(self.discrepancy)(states, lengths, weights > 0)
        each = jnp.where(weights > 0, 1 / jnp.where(weights > 0, weights, 1.0), 0.0)
        return {
            "invariance": jnp.broadcast_to(value, weights.shape),
            "invariance_slopes": slopes * each[:, None, None],
        }
