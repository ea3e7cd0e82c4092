"""The learner: create, annotate, compare, update. Both loops call the same four.

    samples ─► annotate ─► compare ─► whole_batch ─► update (once for each part of the batch)

Everything here is a pure function of arrays. The device loop calls it inside of its own program;
the host loop compiles each function by itself.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Network, Params
from rljax.training.learner.arrays import per_token
from rljax.training.learner.batches import trained_arrays
from rljax.training.learner.compare import Compared, compare_samples
from rljax.training.learner.critic import Critic
from rljax.training.learner.critics import critics_of
from rljax.training.learner.loss import PolicyLoss
from rljax.training.learner.multiplied import mixes
from rljax.training.learner.needs import (
    needs_scores,
    reads_values,
    running_statistics,
    with_schedule,
)
from rljax.training.learner.scoring import make_scores, make_values
from rljax.training.learner.update import Update, make_policy_update
from rljax.training.update.likelihood import draws, likelihood_of
from rljax.training.update.logprobs import make_score
from rljax.training.update.optimizers import Optimizer, build_critic_optimizer, build_optimizer

Arrays = Mapping[str, Any]  # by name (objectives/arrays.py): [N] and [N, T]


@dataclasses.dataclass(frozen=True)
class Learner:
    """Policy gradients on one network for one stage.

    Attributes:
        network: of the policy.
        stage: resolved; numbers of its objective and optimizer may be traced.
        loss: of the policy.
        critic: None where the objective has no targets for one.
        scores: (params, rows) -> what the trainer knows of the samples (learner/scoring.py).
        logprobs: (any parameters of the policy, rows) -> log-probabilities.
        values: (critic's parameters, params, rows) -> values of the states before each token.
        compare: (arrays, running statistics, steps done, seed of the noise, steps before the
            stage) -> `Compared`.
    """

    network: Network
    stage: Stage
    loss: PolicyLoss
    critic: Critic | None
    scores: Callable
    logprobs: Callable
    values: Callable | None
    compare: Callable[..., Compared]

    @classmethod
    def create(cls, network: Network, stage: Stage) -> "Learner":
        """The functions of a stage; nothing is compiled and nothing allocated."""
        critic = make_critic(network, stage)
        parts = stage.batch.sequences_per_step // stage.batch.sequences_per_micro_batch

        def compare(
            arrays: Arrays, running: Arrays, done: Array, noise_key: Array, first_step: int
        ) -> Compared:
            known = with_schedule({**arrays, **running}, done, stage.steps, noise_key, first_step)
            return compare_samples(stage.objective, known)

        return cls(
            network=network,
            stage=stage,
            loss=PolicyLoss(network, stage),
            critic=critic,
            scores=make_scores(network, stage),
            logprobs=make_score(
                network,
                stage.token_filter,
                micro_batches=parts,
                likelihood=likelihood_of(stage),
            ),
            values=None if critic is None else make_values(critic, stage),
            compare=compare,
        )

    @property
    def optimizer(self) -> Optimizer:
        """The policy's optimizer."""
        return build_optimizer(self.stage)

    def first_carried(self, params: Params) -> dict[str, Any]:
        """What the first TrainState carries besides the policy: statistics, and the critic."""
        first = running_statistics(self.stage).items()
        carried: dict[str, Any] = {name: jnp.asarray(value) for name, value in first}
        carried |= {name: self.critic.first_state(params) for name in critics_of(self.stage)}
        return carried

    def reads_rows(self, reference: Params | None, known: Arrays) -> bool:
        """Whether `annotate` runs a model at all."""
        scores = needs_scores(self.stage) and "old_logprobs" not in known
        return scores or reference is not None or self.critic is not None

    def annotate(
        self,
        params: Params,
        carried: Mapping[str, Any],
        reference: Params | None,
        rows: Arrays,
        known: Arrays,
    ) -> dict[str, Array]:
        """What the objective has to know of the samples before the first update, [N, T] each.

        Args:
            params: of the policy, all of them.
            carried: of the TrainState.
            reference: frozen parameters; None where the objective needs none.
            rows: that the model runs on, in the layout of the stage.
            known: arrays that are there already; `old_logprobs` among them are not computed again.

        Returns:
            `old_logprobs` and what else `make_scores` computes, where the objective reads them;
            `ref_logprobs`; `values`.
        """
        arrays: dict[str, Array] = {}
        if needs_scores(self.stage) and "old_logprobs" not in known:
            arrays |= self.scores(params, rows)
        if reference is not None:
            arrays["ref_logprobs"] = self.logprobs(reference, rows)
        if self.critic is not None and reads_values(self.stage):
            name = "values" if self.critic.heads is None else "component_values"
            arrays[name] = self.values(carried["critic"].params, params, rows)
        elif self.critic is not None:  # named by the critic's loss, which does not read them
            arrays["values"] = jnp.zeros(rows["mask"].shape)
        return {name: per_token(array, rows["mask"].shape) for name, array in arrays.items()}

    def whole_batch(self, rows: Arrays, trained: Arrays) -> dict[str, Array]:
        """The rows of a step in their layout, with the arrays that its updates read.

        Args:
            rows: that the model runs on.
            trained: of `compare`, [N, T] and [N].
        """
        shape = rows["mask"].shape
        arrays = {**trained_arrays(self.loss, trained), "mask": trained["mask"]}
        return {**rows} | {
            name: array.reshape(*(shape if array.ndim > 1 else shape[:-1]), *array.shape[2:])
            for name, array in arrays.items()
        }

    def make_update(self, rounding_key: Array | None, optimizer: Optimizer | None = None) -> Update:
        """One update of policy and critic: (state, frozen, batch) -> (state, metrics)."""
        return make_policy_update(
            self.loss, optimizer or self.optimizer, self.critic, rounding_key=rounding_key
        )


def make_critic(network: Network, stage: Stage) -> Critic | None:
    """The critic of a stage whose objective has targets for one."""
    if stage.objective.choices["value_target"] == "none":
        return None
    return Critic.create(
        network,
        build_critic_optimizer(stage),
        stage.objective.bind(stage.objective.functions["critic"]),
        stage.critic,
        stage.batch.micro_batches,
        stage.objective.values if draws(stage) else None,
        1 + len(stage.objective.values["thresholds"]) if mixes(stage) else None,
    )


def running_of(stage: Stage, carried: Mapping[str, Any]) -> dict[str, Array]:
    """The running statistics among what a TrainState carries."""
    return {name: carried[name] for name in running_statistics(stage)}
