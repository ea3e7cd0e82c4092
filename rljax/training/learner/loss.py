"""The policy's loss on a micro-batch, and what it has to know of the whole batch beforehand."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Network, Params
from rljax.objectives.arrays import ARRAYS
from rljax.objectives.batch_inputs import weight_metrics
from rljax.objectives.diagnostics import clip_shares, policy_diagnostics
from rljax.objectives.parts import apply, inputs_of
from rljax.objectives.policy_gradient import is_zero, policy_gradient_loss
from rljax.objectives.supervised import nll
from rljax.objectives.surrogates.demonstrations import (
    guided_ratio,
    shaped_likelihood,
    unsure_likelihood,
)
from rljax.training.learner.arrays import flat, per_token
from rljax.training.learner.compare import sampled_mask
from rljax.training.update.balancing import balance_loss
from rljax.training.update.likelihood import likelihood_of
from rljax.training.update.logprobs import make_statistics
from rljax.training.update.rows import per_sample
from rljax.training.update.token_statistics import token_arrays
from rljax.training.update.train_step import Batch, Metrics

# Arrays that the loss reads of every method, where they are present.
ALWAYS = ("mask", "advantages", "correction", "behavior_logprobs", "old_logprobs", "ref_logprobs")
# Choices that may give tokens factors of their own.
WEIGHTING = ("correction", "rejection", "selection", "token_weight")


class PolicyLoss:
    """The loss of a stage's objective on its network.

    `prepare(params, batch)` comes first, on the whole batch of an update; `loss_fn(params, batch)`
    then is a sum over rows, so that no split into micro-batches can change it.
    """

    def __init__(self, network: Network, stage: Stage) -> None:
        self.network, self.stage, self.objective = network, stage, stage.objective
        placement = self.objective.choices["kl_placement"]
        self.kl = self.objective.kl if placement == "loss" else None
        whole = stage.batch.sequences_per_update // stage.batch.sequences_per_micro_batch
        self._likelihood = likelihood_of(stage)
        self._score = make_statistics(
            network, stage.token_filter, micro_batches=whole, likelihood=self._likelihood
        )

    @property
    def reads(self) -> frozenset[str]:
        """Arrays of a step that updates read, [N, T] or [N], where they are present."""
        names = {"demonstration", "sampled", "noise", "kl_weights", *ALWAYS}
        names |= {f"old_{name}" for name in self._current_names}
        if self._adds_likelihood:
            names.add("correct")
        update = ("ratio", "surrogate", "token_weight", "aggregation", *self.objective.batch_inputs)
        for name in update:
            names.update(inputs_of(self.objective.functions[name]))
        return frozenset(name for name in names if ARRAYS[name].axes.startswith("N"))

    @property
    def _current_names(self) -> list[str]:
        """What it has to know of the policy before each update: logprobs, entropy."""
        names = (*self.objective.batch_inputs, "token_weight")
        read = {name for part in names for name in inputs_of(self.objective.functions[part])}
        return [name for name in ("logprobs", "entropy") if f"current_{name}" in read]

    @property
    def _adds_likelihood(self) -> bool:
        return not is_zero(self.objective.values["likelihood_weight"])

    def prepare(self, params: Params, batch: Batch) -> Batch:
        """Adds what depends on the whole batch: weights of the aggregation, inputs of the parts."""
        shape, arrays = batch["mask"].shape, flat(batch)
        # What ranks or averages tokens sees samples only.
        own = arrays | self._current(params, batch) | {"mask": sampled_mask(arrays)}
        made = {name: apply(part, own) for name, part in self.objective.batch_inputs.items()}
        weight = apply(self.objective.part("token_weight"), own)
        made["correction"] = weight * arrays.get("correction", 1.0)
        made["weights"] = self._weights(arrays)
        if self._adds_likelihood:
            right = arrays["mask"] & arrays["correct"][:, None]
            share = right / jnp.maximum(right.sum(), 1)
            made["likelihood_weights"] = self.objective.values["likelihood_weight"] * share
        made = {name: jax.lax.stop_gradient(array) for name, array in made.items()}
        return batch | {name: array.reshape(shape) for name, array in made.items()}

    def _current(self, params: Params, batch: Batch) -> dict[str, Array]:
        """Log-probabilities and entropies [N, T] before the update, as far as they are read."""
        names = self._current_names
        if self.stage.batch.updates_per_step == 1:  # the policy has not moved since the step began
            return {f"current_{name}": per_sample(batch[f"old_{name}"]) for name in names}
        found = self._score(params, batch) if names else {}
        return {f"current_{name}": per_sample(found[name]) for name in names}

    def _weights(self, arrays: dict[str, Array]) -> Array:
        """Weights of the aggregation [N, T]; demonstrations that replace samples have their own.

        HPT's loss (arXiv:2509.04419) is a mean over prompts: of the policy gradient of a prompt
        that is solved, of the mean negative log-likelihood of the demonstration's tokens of one
        that is not. So a demonstration weighs the same whatever becomes of the other prompts, and
        samples keep the divisor that they have where none is replaced.
        """
        mask, weigh = arrays["mask"], self.objective.part("aggregation")
        if self.objective.choices["demonstrations"] != "switch":
            return weigh(mask)
        own = jnp.where(sampled_mask(arrays), weigh(arrays["sampled"]), 0.0)
        shown = mask & arrays["demonstration"][:, None]
        prompts = self.stage.batch.sequences_per_update / self.stage.batch.rows_per_prompt
        supervised = shown / jnp.maximum(shown.sum(axis=1, keepdims=True), 1) / prompts
        return own + self.objective.values["supervised_weight"] * supervised

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """The loss of a part of a prepared batch (objectives/policy_gradient.py)."""
        values = self.objective.values
        statistics = self._likelihood(self.network, params, batch, self.stage.token_filter)
        # To the objective samples are [N, T] in either layout of the rows.
        arrays = flat(batch)
        shape = batch["mask"].shape
        arrays |= {name: per_token(x, shape) for name, x in token_arrays(statistics).items()}
        for name in ("logprobs", "draw_logprobs"):
            if name in arrays:
                arrays.setdefault(f"old_{name}", jax.lax.stop_gradient(arrays[name]))
        weights, mask = arrays.pop("weights"), arrays["mask"]
        if "token_share" in arrays:
            weights = weights * arrays["token_share"]
        diagnosed = self._diagnostics(arrays)
        if self.objective.choices["denominator"] == "behavior":
            # A sampler that reports no number says nothing: its token counts as a ratio of 1.
            reported = jnp.isfinite(arrays["behavior_logprobs"])
            unmoved = jax.lax.stop_gradient(arrays["logprobs"])
            arrays["old_logprobs"] = jnp.where(reported, arrays["behavior_logprobs"], unmoved)
        samples = arrays | {"mask": sampled_mask(arrays)}  # demonstrations are no part of metrics
        diagnosed |= self._wrong_sides(samples)
        loss, metrics = policy_gradient_loss(
            samples,
            ratio=self.objective.part("ratio"),
            surrogate=self.objective.part("surrogate"),
            kl=self.kl,
            kl_weight=self._kl_weight(arrays),
            kl_importance_weighted=bool(self.kl) and values.get("kl_importance_weighted", False),
            entropy_weight=values["entropy_weight"],
        )
        if "demonstration" in arrays:
            shown, more = self._shown(arrays)
            loss = jnp.where(arrays["demonstration"][:, None], shown, loss)
            metrics |= more
        balance, balance_metrics = balance_loss(
            self.network.config, statistics.routing, micro_batches=self.stage.batch.micro_batches
        )
        total = jnp.sum(jnp.where(mask, weights * loss, 0.0)) + balance
        if "likelihood_weights" in arrays:  # of right samples (VAPO, arXiv:2504.05118, section 4.3)
            total += jnp.sum(arrays["likelihood_weights"] * nll(arrays["logprobs"], mask)[0])
        return total, metrics | diagnosed | balance_metrics

    def _kl_weight(self, arrays: dict[str, Array]) -> Array | float:
        if self.kl is None:
            return 0.0
        given = arrays.get("kl_weights")
        return self.objective.values["kl_weight"] if given is None else given[:, None]

    def _shown(self, arrays: dict[str, Array]) -> tuple[Array, Metrics]:
        """The loss [N, T] of rows that were not sampled from their prompt, and its metrics."""
        mask = arrays["mask"] & arrays["demonstration"][:, None]
        logprobs, chosen = arrays["logprobs"], self.objective.choices["demonstrations"]
        if chosen == "switch":
            return nll(logprobs, mask)[0], {}
        part, compared = shaped_likelihood, logprobs
        if chosen == "guided":
            reported = arrays["behavior_logprobs"]
            known = jnp.where(jnp.isfinite(reported), reported, jax.lax.stop_gradient(logprobs))
            part, compared = guided_ratio, logprobs - known
        loss, metrics = self.objective.bind(part)(compared, arrays["advantages"], mask)
        if chosen == "in_group" and not is_zero(self.objective.values["demonstration_nll"]):
            learned = self.objective.bind(unsure_likelihood)
            supervised, more = learned(logprobs, arrays["entropy"], mask)
            return loss + supervised, metrics | more
        return loss, metrics

    def _diagnostics(self, arrays: dict[str, Array]) -> Metrics:
        """What is logged of every method; demonstrations were not sampled and do not count."""
        mask = sampled_mask(arrays)
        metrics = policy_diagnostics(
            arrays["logprobs"],
            arrays["old_logprobs"],
            arrays["behavior_logprobs"],
            mask,
            arrays.get("ref_logprobs"),
        )
        if any(self.objective.choices[choice] != "none" for choice in WEIGHTING):
            metrics |= weight_metrics(arrays["correction"], mask)
        return metrics

    def _wrong_sides(self, arrays: dict[str, Array]) -> Metrics:
        """Tokens beyond the clip range that moved against their advantage, which is not stopped.

        Those that are stopped are among the metrics of the surrogate.
        """
        if self.objective.choices["surrogate"] != "clipped":
            return {}
        log_ratio = apply(self.objective.part("ratio"), arrays)
        widths = {name: self.objective.values[name] for name in ("clip_low", "clip_high")}
        shares = clip_shares(log_ratio, arrays["advantages"], arrays["mask"], **widths)
        return {
            name: shares[name] for name in ("clip_share_positive_low", "clip_share_negative_high")
        }
