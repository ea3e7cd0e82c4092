"""Evolution strategies with low-rank noise (EGGROLL, arXiv:2511.16652): perturb, answer, add up.

A step gives every member of a population parameters with noise of its own, lets it answer its
prompts greedily, and scores the answers as any other stage does. The update adds up the noise of
the members, weighed by their fitness (objectives/evolution.py): nothing is differentiated, and
nothing but one number of each member reaches it. The noise is drawn again from its keys, which
depend on the seed and the step alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rljax.config.stage import Stage
from rljax.models.lora import flatten, split_held, unflatten
from rljax.models.network import Params
from rljax.objectives.evolution import UNPERTURBED
from rljax.objectives.parts import apply
from rljax.parallel.host import to_host
from rljax.parallel.rules import replicated, rows_divisor
from rljax.rewards.pool import Scores
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.experience import Experience
from rljax.training.collect.perturbation import Perturbation
from rljax.training.collect.population import Population
from rljax.training.collect.rewards import TextReward
from rljax.training.collect.rollout_record import rollout_record
from rljax.training.collect.rollouts import Samples, require_rewards
from rljax.training.collect.sampled import SampledExperience, WholeRollouts
from rljax.training.collect.sources import shuffled_problems, stage_engine
from rljax.training.families import Family, StepBatches
from rljax.training.run.context import Context
from rljax.training.run.engines import stop_automaton
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import Batch, Metrics, jit_update, optimizer_step

Update = Callable[[TrainState, Params, Batch], tuple[TrainState, Metrics]]


class Detail(NamedTuple):
    """A step's answers, kept for the report."""

    samples: Samples
    scores: Scores
    fitness: np.ndarray  # [B * G], of the member that gave each answer


class Evolution(Family):
    """A population of perturbed policies against a verifier. A batch's leading axis is the member.

    `samples_per_prompt` members answer each prompt, and every member answers `prompts_per_member`
    prompts of the step: N = prompts_per_step / prompts_per_member * samples_per_prompt of them.
    """

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage, self.first_step = context, stage, first_step
        self.key = purpose_key(context.config.seed, Purpose.POPULATION)
        self.perturbation = make_perturbation(context, stage)
        engine = context.make_engine(
            samples_per_prompt=1,
            max_new_tokens=stage.max_new_tokens,
            token_filter=stage.token_filter,
            stop_strings=stage.stop_strings,
        )
        self.population = Population(
            engine,
            self.perturbation,
            members_per_prompt=stage.batch.samples_per_prompt,
            prompts_per_member=stage.objective.values["prompts_per_member"],
            rows_at_a_time=context.config.sampler.slots,
            stop_strings=stop_automaton(
                stage.stop_strings, context.tokenizer, context.network.config.vocab_size
            ),
        )
        self.source = SampledExperience(
            shuffled_problems(context),
            # The noise counts updates, from 0.
            WholeRollouts(context, self.population, key=self.key, first_step=first_step - 1),
            prompts_per_step=stage.batch.prompts_per_step,
            reward=TextReward(context),
        )
        self.fitness = jax.jit(self._fitness)

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Builds the sampler; the population must consist of whole pairs, groups and shards."""
        stage_engine(context, stage, samples=1)
        batch, where = stage.batch, f"config.{stage.name}"
        each = stage.objective.values["prompts_per_member"]
        unperturbed = UNPERTURBED.get(stage.objective.choices["fitness"], 0)
        if batch.samples_per_prompt % 2 or batch.samples_per_prompt <= unperturbed:
            more = f" and more than {unperturbed}" if unperturbed else ""
            raise ValueError(
                f"samples_per_prompt={batch.samples_per_prompt} members answer a prompt; it must "
                f"be even{more}, so that the two members of a pair answer the same prompts "
                f"({where}.batch.samples_per_prompt)."
            )
        if batch.prompts_per_step % each:
            raise ValueError(
                f"prompts_per_member={each} does not divide prompts_per_step="
                f"{batch.prompts_per_step} ({where}.objective.prompts_per_member)."
            )
        members = batch.prompts_per_step // each * batch.samples_per_prompt
        shards = rows_divisor(context.mesh)
        if members % shards:
            raise ValueError(
                f"A population of {members} members does not divide over the {shards} shards of "
                f"rows, data x fsdp x expert ({where}.batch.prompts_per_step, config.mesh)."
            )
        make_perturbation(context, stage)

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """What the members' answers are worth: one update's fitness [N]."""
        samples, scores = experience.samples, experience.scores
        require_rewards(scores, "An evolution strategy")
        of_members = self._by_member(scores.total)
        fitness, no_signal = to_host(self.fitness(of_members))
        rows = {
            "fitness": fitness,
            "update": np.full(len(fitness), self.first_step + step - 1, np.int32),
        }
        metrics = experience.metrics | {
            "groups_without_signal": float(no_signal),
            "population_deviation": float(of_members.mean(axis=1).std()),
        }
        tokens = int(samples.flat("mask").sum())
        detail = Detail(samples, scores, self._by_answer(fitness))
        return state, StepBatches([rows], metrics, experience.seconds, tokens, detail)

    def make_update(
        self, optimizer: optax.GradientTransformation, rounding_key: Array | None
    ) -> Update:
        """The jitted update: adds up the noise of the members, weighed by their fitness.

        A fitness that is not finite leaves parameters and optimizer as they were; the update is
        counted in `state.skipped`.

        Args:
            optimizer: an optax transformation.
            rounding_key: of the stochastic rounding of bfloat16 parameters.

        Returns:
            update(state, frozen, batch) -> (state, metrics); the state is donated.
        """
        context, mesh = self.context, self.context.mesh
        keys = self.perturbation.keys(self.key)

        def update(state: TrainState, frozen: Params, batch: Batch) -> tuple[TrainState, Metrics]:
            # Every device needs the fitness of all members; there is nothing else to send.
            fitness = jax.lax.with_sharding_constraint(batch["fitness"], replicated(mesh))
            gradient = self.perturbation.gradient(keys, batch["update"][0], fitness)
            optimised, held = split_held(state.params)
            leaves = flatten(gradient)
            gradient = unflatten({path: leaves[path] for path in flatten(optimised)})
            return optimizer_step(state, gradient, optimizer, held=held, rounding_key=rounding_key)

        carried = self.carried(context, self.stage)
        return jit_update(update, context.network, optimizer, mesh, carried)

    def _by_member(self, values: np.ndarray) -> np.ndarray:
        """[B * G] of answers -> [N, Q] of members (training/collect/population.py)."""
        group, each = self.population.members_per_prompt, self.population.prompts_per_member
        return values.reshape(-1, each, group).swapaxes(1, 2).reshape(-1, each)

    def _by_answer(self, values: np.ndarray) -> np.ndarray:
        """[N] of members -> [B * G] of their answers."""
        group, each = self.population.members_per_prompt, self.population.prompts_per_member
        return np.repeat(values.reshape(-1, 1, group), each, axis=1).reshape(-1)

    def _fitness(self, member_scores: Array) -> tuple[Array, Array]:
        """Fitness [N], and the share of groups whose members all have the same score."""
        group, members = self.population.members_per_prompt, jnp.arange(len(member_scores))
        arrays = {
            "member_scores": member_scores,
            "group_ids": members // group,
            "unperturbed": members % group < self.perturbation.unperturbed,
        }
        of_groups = member_scores.mean(axis=1).reshape(-1, group)
        equal = of_groups.max(axis=1) == of_groups.min(axis=1)
        return apply(self.stage.objective.part("fitness"), arrays), equal.mean()

    def record(self, step: int, batches: StepBatches) -> dict[str, Any]:
        """The step's answers; the advantage shown is the fitness of the member."""
        detail: Detail = batches.detail
        shape = detail.samples.flat("mask").shape
        return rollout_record(
            self.context,
            self.stage.name,
            step,
            detail.samples,
            detail.scores,
            {
                "logprobs": detail.samples.flat("model_logprobs"),
                "advantage": np.broadcast_to(detail.fitness[:, None], shape),
            },
        )


def make_perturbation(context: Context, stage: Stage) -> Perturbation:
    """The perturbation of a stage, from its config.

    Raises:
        ValueError: for a model that cannot be perturbed.
    """
    values = stage.objective.values
    names = ("sigma", "rank", "noise_reuse", "freeze_vectors", "modules")
    return Perturbation.of(
        context.network,
        **{name: values[name] for name in names},
        unperturbed=UNPERTURBED.get(stage.objective.choices["fitness"], 0),
        group_size=stage.batch.samples_per_prompt,
    )
