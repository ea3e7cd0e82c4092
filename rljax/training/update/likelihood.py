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
from jax import Array

from rljax.config.stage import Stage
from rljax.errors import unknown_name
from rljax.models.config import ModelConfig
from rljax.models.network import Network, Params
from rljax.objectives.parts import fields_of
from rljax.sampling.distribution import TokenFilter
from rljax.training.update.logprobs import LIKELIHOOD_KEYS, Statistics, completion_statistics
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
        """Statistics of the completions.

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
                over the draws that did.
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


LIKELIHOODS = {"autoregressive": Likelihood(autoregressive, causal=True)}


def likelihood_of(stage: Stage) -> Statistics:
    """The estimator of a stage, its config fields bound, which takes its keys from the rows.

    Raises:
        ValueError: when it is called, if it draws and the rows hold no keys.
    """
    name = stage.objective.choices["likelihood"]
    entry = LIKELIHOODS[name]
    fields = fields_of(entry.estimate, leave_out=("key", "top_k"))
    values = {field: stage.objective.values[field] for field in fields}
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
                f"({where}, config.model.causal, config.model.init_from)."
            )
