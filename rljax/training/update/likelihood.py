"""Estimators of how likely a completion is: the choice `likelihood` of a stage.

Every loss and every scoring pass of a stage takes its log-probabilities from the same estimator.
Autoregressive networks have exact ones. Networks that fill masked positions have estimates and
bounds only, from random masks; such an estimator is one more function here, and an entry.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.errors import unknown_name
from rljax.models.config import ModelConfig
from rljax.models.network import Network, Params
from rljax.objectives.masking import MASKING_FIELDS, MASKINGS
from rljax.objectives.parts import fields_of
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.keys import Purpose, purpose_key, row_keys
from rljax.training.update.logprobs import LIKELIHOOD_KEYS, Statistics, completion_statistics
from rljax.training.update.masked_likelihood import elbo
from rljax.training.update.token_statistics import TokenStatistics
from rljax.training.update.train_step import Batch


class Estimator(Protocol):
    """What an entry of `LIKELIHOODS` computes.

    Keyword-only arguments besides `key` and `top_k` are config fields of the option: the number of
    Monte-Carlo draws, say.
    """

    def __call__(
        self,
        network: Network,
        params: Params,
        rows: Batch,
        token_filter: TokenFilter,
        *,
        key: Array | None = None,
        top_k: int = 0,
    ) -> TokenStatistics:
        """Statistics of the completions; `epochs`, where it is named, are those of a step.

        Args:
            network: the model's structure, of a kind that the entry serves.
            params: its parameters, differentiated.
            rows: tokens, positions, segment_ids i32 and mask bool, in a layout of update/rows.py.
                The mask says which tokens are the completion's: an end token is one, what comes
                after it is not.
            token_filter: of the sampler.
            key: one for each completion, [N] or [B, G], of an estimator that draws; else None.
                What is drawn for a completion must depend on its key alone, not on its place or on
                other rows: so neither micro-batches nor the mesh change a number, and policy, old
                policy and reference see the same masks wherever they are given the same keys.
            top_k: number of most probable tokens to return for every token.

        Returns:
            With the axes of the mask, no axis of draws among them:

            `logprobs`: the share of each token, differentiated. Their sum over the mask is what
                the estimator says of log p(completion | prompt), or of a lower bound of it, so
                whatever weighs draws and masks (1 / t, say) is inside; a token that no draw
                masked has 0.
            `entropy`, `greedy`: of the distributions that the tokens were predicted from, in mean
                over the draws, weighted as `logprobs` are.
            `more`: further arrays by name, which parts then read: an upper bound, say, for samples
                whose likelihood is lowered.
            `routing`: of all passes together.
        """
        ...


def autoregressive(
    network: Network,
    params: Params,
    rows: Batch,
    token_filter: TokenFilter,
    *,
    key: Array | None = None,
    top_k: int = 0,
) -> TokenStatistics:
    """Each token given those before it, in one pass: exact, and nothing is drawn."""
    del key
    return completion_statistics(network, params, rows, token_filter, top_k=top_k)


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """An entry of `LIKELIHOODS`.

    Attributes:
        estimate: the function.
        causal: the networks that it serves: causal ones, or those that see both ways.
        draws: whether it needs keys.
    """

    estimate: Estimator
    causal: bool
    draws: bool = False


LIKELIHOODS = {
    "autoregressive": Likelihood(autoregressive, causal=True),
    "elbo": Likelihood(elbo, causal=False, draws=True),
}

# Choices -> their options that go with estimates of whole completions.
_WITH_DRAWS = {
    "rollouts": ("whole",),
    "selection": ("none", "finished"),
    "demonstrations": ("none",),
    "correction": ("none",),
    "rejection": ("none",),
    "token_loss": ("nll",),
    "anchor": ("none",),
}

# What only single passes of a causal network say of tokens.
_OF_PASSES = frozenset(
    {"behavior_logprobs", "old_collision", "proxy_logprobs", "start_values"}
    | {
        "ref_divergence",
        "teacher_logprobs",
        "current_log_collision",
        "answer_logprobs",
        "bare_answer_logprobs",
    }
)


def likelihood_of(stage: Stage) -> Statistics:
    """The estimator of a stage, its config fields bound, which takes its keys from the rows.

    Raises:
        ValueError: when it is called, if it draws and the rows hold no keys.
    """
    name = stage.objective.choices["likelihood"]
    entry = LIKELIHOODS[name]
    fields = fields_of(entry.estimate, leave_out=("key", "top_k"))
    known = {"epochs": stage.batch.epochs_per_step} | dict(stage.objective.values)
    values = {field: known[field] for field in fields}
    if not entry.draws:
        return functools.partial(entry.estimate, **values)

    def estimate(
        network: Network,
        params: Params,
        rows: Batch,
        token_filter: TokenFilter,
        *,
        top_k: int = 0,
    ) -> TokenStatistics:
        if LIKELIHOOD_KEYS not in rows:
            raise ValueError(
                f"likelihood={name!r} draws masks and needs a key for each completion, "
                f"rows[{LIKELIHOOD_KEYS!r}]; given: {', '.join(rows)} "
                f"(config.{stage.name}.objective.likelihood)."
            )
        keys = jax.random.wrap_key_data(rows[LIKELIHOOD_KEYS])
        return entry.estimate(network, params, rows, token_filter, key=keys, top_k=top_k, **values)

    return estimate


def likelihood_rows(seed: int, step: int, ids: np.ndarray, samples: np.ndarray) -> dict:
    """The keys of completions, for their rows: no two steps of a run share masks.

    Args:
        seed: of the run.
        step: counted over the whole run.
        ids: [N] i32, the stable id of each completion's prompt, pair or demonstration.
        samples: [N] i32, its number among the completions of the same id.
    """
    key = purpose_key(seed, Purpose.LIKELIHOOD)
    keys = row_keys(key, step, jnp.asarray(ids, jnp.int32), jnp.asarray(samples)[:, None])
    return {LIKELIHOOD_KEYS: np.asarray(jax.random.key_data(keys))}


def draws(stage: Stage) -> bool:
    """Whether the estimator of a stage draws masks, and its rows need keys."""
    name = stage.objective.choices.get("likelihood")
    return name is not None and LIKELIHOODS[name].draws


def passes_of(stage: Stage) -> int:
    """How often the estimator of a stage runs the network over each completion; guided, twice."""
    if not draws(stage):
        return 1
    values = stage.objective.values
    guided = 2 if values["guidance_scale"] else 1
    return guided * values["mask_draws"] * MASKINGS[values["masking"]].passes


def check_likelihoods(stages: Iterable[Stage], model: ModelConfig) -> None:
    """Raises ValueError for a stage whose estimator cannot serve the network, or does not exist."""
    kinds = {True: "a causal network, causal=True", False: "one that sees both ways, causal=False"}
    for stage in stages:
        name = stage.objective.choices.get("likelihood")
        if name is None:  # nothing is scored
            continue
        where = f"config.{stage.name}.objective.likelihood"
        if name not in LIKELIHOODS:
            raise unknown_name("likelihood", name, LIKELIHOODS, where)
        wanted = LIKELIHOODS[name].causal
        if wanted != model.causal:
            able = [repr(n) for n, entry in LIKELIHOODS.items() if entry.causal == model.causal]
            raise ValueError(
                f"likelihood={name!r} serves {kinds[wanted]}; this network is "
                f"{kinds[model.causal]}, which is served by {', '.join(able) or 'none so far'} "
                f"({where}, config.model.causal, config.model.init_from). A causal checkpoint is "
                "made one that sees both ways by config.model.convert."
            )
        if LIKELIHOODS[name].draws:
            _check_drawn(stage, model, where)


def _check_drawn(stage: Stage, model: ModelConfig, where: str) -> None:
    """Refuses what an estimate from masks cannot serve."""
    choices = stage.objective.choices
    _check_masking(stage)
    for choice, allowed in _WITH_DRAWS.items():
        if choices.get(choice, allowed[0]) not in allowed:
            raise ValueError(
                f"{choice}={choices[choice]!r} does not go with likelihood="
                f"{choices['likelihood']!r}, which scores whole completions: it must be "
                f"{' or '.join(map(repr, allowed))} (config.{stage.name}.objective.{choice})."
            )
    read = sorted(_OF_PASSES & stage.objective.inputs)
    if choices.get("denominator") == "behavior":
        read.append("behavior_logprobs")
    if read:
        raise ValueError(
            f"method {stage.objective.method.name!r} reads {read[0]!r}, which "
            f"likelihood={choices['likelihood']!r} does not give ({where})."
        )
    if model.experts:
        raise ValueError(
            f"likelihood={choices['likelihood']!r} is for dense networks, and this one has "
            f"experts={model.experts} ({where}, config.model.experts)."
        )
    if model.mask_token < 0:
        raise ValueError(
            f"likelihood={choices['likelihood']!r} hides tokens behind a mask token, and the model "
            f"names none: set its id (config.model.mask_token, {where})."
        )
    if stage.data.get("packed"):
        raise ValueError(
            f"likelihood={choices['likelihood']!r} reads one demonstration in a row: packed must "
            f"be False (config.{stage.name}.data.packed, {where})."
        )
    if stage.data.get("reference_cache"):
        raise ValueError(
            f"reference_cache={stage.data['reference_cache']!r} keeps what the reference says "
            f"once, and likelihood={choices['likelihood']!r} draws anew in a step: leave it out "
            f"(config.{stage.name}.data.reference_cache, {where})."
        )
    values = stage.objective.values
    low, high = values.get("mask_share_low", 0.0), values.get("mask_share_high", 1.0)
    if low > high:
        raise ValueError(
            f"mask_share_low={low} is above mask_share_high={high} "
            f"(config.{stage.name}.objective.mask_share_low)."
        )
    block, canvas = values.get("mask_block", 0), stage.max_new_tokens
    if stage.online and block > canvas:
        raise ValueError(
            f"mask_block={block} is longer than the canvas of max_new_tokens={canvas} tokens "
            f"(config.{stage.name}.objective.mask_block, "
            f"config.{stage.name}.sampling.max_new_tokens)."
        )


def _check_masking(stage: Stage) -> None:
    """Refuses fields that the masking of a stage never reads, and what only one family reads."""
    values, where = stage.objective.values, f"config.{stage.name}.objective"
    if "masking" not in values:  # another estimator
        return
    masking, own = values["masking"], stage.objective.method.parts
    fields = fields_of(elbo)
    for name in MASKING_FIELDS:
        changed = values[name] not in (fields[name].default, own.get(name))
        if changed and name not in MASKINGS[masking].reads:
            readers = [repr(option) for option, entry in MASKINGS.items() if name in entry.reads]
            raise ValueError(
                f"{name}={values[name]!r} is never read with masking={masking!r}, but with "
                f"{', '.join(readers)}: leave it out ({where}.{name}, {where}.masking)."
            )
    if masking == "trajectory" and "ratio" not in stage.objective.choices:
        raise ValueError(
            "masking='trajectory' scores tokens in the steps in which the policy sampled them, and "
            f"the {stage.objective.family} family learns from completions without steps "
            f"({where}.masking)."
        )
    if values["plain_logprobs"] and "ratio" not in stage.objective.choices:
        raise ValueError(
            "plain_logprobs=True gives log-probabilities of hidden tokens alone, and the "
            f"{stage.objective.family} family adds up a bound: it must be False "
            f"({where}.plain_logprobs)."
        )
