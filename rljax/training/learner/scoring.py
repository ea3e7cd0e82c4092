"""What the trainer knows of a step's samples before the first update, in scoring passes."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Network, Params
from rljax.objectives.batch_inputs.rare_tokens import without_noise
from rljax.sampling.distribution import TokenFilter
from rljax.training.learner.critic import Critic
from rljax.training.update.likelihood import likelihood_of
from rljax.training.update.logprobs import in_parts, make_statistics, model_rows
from rljax.training.update.train_step import Batch

Scores = dict[str, Array]


def make_scores(network: Network, stage: Stage) -> Callable[[Params, Batch], Scores]:
    """Builds scores(params, rows) -> the arrays of the old policy, with the axes of the mask.

    `old_logprobs` and `old_entropy`; `old_draw_logprobs` where a part names it; `proxy_logprobs`
    and `old_collision` likewise, from a second pass each.
    """
    batch, inputs = stage.batch, stage.objective.inputs
    parts = batch.sequences_per_step // batch.sequences_per_micro_batch

    def statistics(token_filter: TokenFilter, top_k: int = 0) -> Callable:
        return make_statistics(
            network,
            token_filter,
            micro_batches=parts,
            top_k=top_k,
            likelihood=likelihood_of(stage),
        )

    def scores(params: Params, rows: Batch) -> Scores:
        found = statistics(stage.token_filter)(params, rows)
        made = {"old_logprobs": found["logprobs"], "old_entropy": found["entropy"]}
        if "old_draw_logprobs" in inputs:
            made["old_draw_logprobs"] = found["draw_logprobs"]
        if "old_collision" in inputs:
            # With s = sum exp(x): log sum p^2 = log s(2 x) - 2 log s(x), and the taken token's
            # log-probability at half the temperature is 2 x - log s(2 x).
            cold = dataclasses.replace(
                stage.token_filter, temperature=stage.token_filter.temperature / 2
            )
            colder = statistics(cold)(params, rows)["logprobs"]
            made["old_collision"] = jnp.exp(2 * found["logprobs"] - colder)
        if "proxy_logprobs" in inputs:
            threshold = stage.objective.values["proxy_threshold"]
            kept = dataclasses.replace(stage.token_filter, min_p=threshold)
            proxy = statistics(kept, top_k=1)(params, rows)
            made["proxy_logprobs"] = without_noise(
                proxy["logprobs"], proxy["top_logprobs"][..., 0], proxy_threshold=threshold
            )
        return jax.lax.stop_gradient(made)

    return scores


def make_values(critic: Critic, stage: Stage) -> Callable[[Params, Params, Batch], Array]:
    """Builds values(critic parameters, policy parameters, rows), with the axes of the mask."""
    parts = stage.batch.sequences_per_step // stage.batch.sequences_per_micro_batch

    def values(params: Params, policy_params: Params, rows: Batch) -> Array:
        found = in_parts(critic.values, parts, model_rows(rows), params, policy_params)
        return jax.lax.stop_gradient(found)

    return values
