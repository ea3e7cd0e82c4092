"""Log-probabilities of chosen tokens, as the trainer sees them."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.attention import GroupLayout
from rljax.models.moe import Routing
from rljax.models.network import Network, Params
from rljax.models.transformer import Transformer
from rljax.sampling.distribution import TokenFilter
from rljax.training.update.token_statistics import TokenStatistics, token_statistics
from rljax.training.update.train_step import Batch, split_micro_batches

# Rows of a likelihood that draws hold the data of a key for each completion under this name, u32
# [N, 2] or [B, G, 2]: `row_keys` of the purpose LIKELIHOOD (sampling/keys.py). New keys in every
# update are new masks.
LIKELIHOOD_KEYS = "likelihood_keys"
# Rows that are in several updates of a step hold the number of the update, i32 [N], from 0: masks
# are drawn anew in each of them.
LIKELIHOOD_EPOCH = "likelihood_epoch"
# What is added to the embedded tokens of separate rows, f32 [N, S, D]: for gradients by them.
EMBEDDING_SHIFT = "embedding_shift"
# Samples of masked diffusion hold the step in which each token was filled, i32 [N, T].
FILL_STEPS = "fill_steps"


class Statistics(Protocol):
    """An estimator of a stage as its callers have it (update/likelihood.py)."""

    def __call__(
        self,
        network: Network,
        params: Params,
        rows: Batch,
        token_filter: TokenFilter,
        *,
        top_k: int = 0,
    ) -> TokenStatistics:
        """Statistics of the completions, with the axes of the mask."""
        ...


def completion_statistics(
    network: Network,
    params: Params,
    rows: Batch,
    token_filter: TokenFilter,
    *,
    top_k: int = 0,
) -> TokenStatistics:
    """Teacher-forced statistics of the completions, or of the last T tokens of each row.

    A token is predicted from the hidden state of the token before it; only those T hidden states
    of a completion meet the vocabulary. What the rows are follows from the mask:

        [N, T]     a row [N, S] ends with its T scored tokens (update/rows.py, data/packing.py)
        [B, G, T]  a row [B, P + G * T] is one prompt and its G completions: the first token of
                   each completion is predicted from the prompt's last slot, P - 1

    Args:
        network: the model's structure.
        params: its parameters, differentiated.
        rows: tokens, positions, segment_ids i32, and mask bool. May hold temperature f32 of the
            mask's shape: what each token was sampled at, if it was not the filter's.
        token_filter: of the sampler; bias, temperature and truncation are part of the policy.
        top_k: number of most probable tokens to return for every token.

    Returns:
        Statistics with the axes of the mask (update/token_statistics.py), of masked slots too.

    Raises:
        ValueError: for temperatures of another shape than the mask, group rows without a prompt,
            and what token_statistics refuses.
    """
    shape, temperature = rows["mask"].shape, rows.get("temperature")
    if temperature is not None and temperature.shape != shape:
        raise ValueError(
            f"rows['temperature'] must have the shape of the mask {shape}, got {temperature.shape}."
        )
    model = network.bind(params)
    before, targets, routing = states_before(model, rows)
    statistics = token_statistics(
        before,
        model.vocabulary(),
        targets,
        token_filter,
        vocab_size=network.config.vocab_size,
        temperature=None if temperature is None else temperature.reshape(targets.shape),
        logit_softcap=network.config.logit_softcap,
        top_k=top_k,
    )
    statistics = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[2:]), statistics)
    return statistics._replace(routing=routing)


def states_before(model: Transformer, rows: Batch) -> tuple[Array, Array, Routing | None]:
    """What each completion token is predicted from.

    Args:
        model: bound to its parameters.
        rows: in either layout, see `completion_statistics`.

    Returns:
        The final hidden state one token before each completion slot, [N, T, D] or [B, G * T, D];
        the tokens in those slots; and the routing of the whole rows.
    """
    shape, inputs = rows["mask"].shape, (rows["tokens"], rows["positions"], rows["segment_ids"])
    if len(shape) == 3:
        layout = _layout(rows)
        encoded = model(*inputs, group=layout)
        return *_completions(encoded.hidden, rows["tokens"], layout), encoded.routing
    encoded = model(*inputs, shift=rows.get(EMBEDDING_SHIFT))
    length = shape[1]
    return encoded.hidden[:, -length - 1 : -1], rows["tokens"][:, -length:], encoded.routing


def make_statistics(
    network: Network,
    token_filter: TokenFilter,
    *,
    micro_batches: int,
    top_k: int = 0,
    likelihood: Statistics = completion_statistics,
) -> Callable[[Params, Batch], dict[str, Array]]:
    """Builds statistics(params, rows) -> {"logprobs", "entropy"}, axes of the mask, no gradient.

    What else the estimator says of tokens (`TokenStatistics.more`) is there by name.

    Rows are scored in `micro_batches` parts, one after the other, to bound the memory. With `top_k`
    also "top_logprobs", [..., k] of the likeliest tokens. `likelihood` is the stage's estimator.
    """

    def part(params: Params, rows: Batch) -> dict[str, Array]:
        found = likelihood(network, params, rows, token_filter, top_k=top_k)
        scored = {"logprobs": found.logprobs, "entropy": found.entropy, **(found.more or {})}
        if top_k:
            scored["top_logprobs"] = found.top_logprobs
        return jax.lax.stop_gradient(scored)

    def statistics(params: Params, rows: Batch) -> dict[str, Array]:
        return in_parts(part, micro_batches, model_rows(rows), params)

    return statistics


def in_parts(function: Callable, parts: int, rows: Batch, *args: Any) -> Any:
    """function(*args, rows), for some of the rows at a time, to bound the memory.

    Args:
        function: returns arrays that lead with the axes of the mask.
        parts: one after the other; divides the rows.
        rows: a batch.
        args: of every call.
    """
    if parts == 1:
        return function(*args, rows)
    found = jax.lax.map(lambda part: function(*args, part), split_micro_batches(rows, parts))
    shape = rows["mask"].shape

    def join(x: Array) -> Array:
        return x.swapaxes(0, 1).reshape(*shape, *x.shape[1 + len(shape) :])

    return jax.tree.map(join, found)


def make_score(
    network: Network,
    token_filter: TokenFilter,
    *,
    micro_batches: int,
    likelihood: Statistics = completion_statistics,
) -> Callable[[Params, Batch], Array]:
    """`make_statistics` of the log-probabilities alone."""
    statistics = make_statistics(
        network, token_filter, micro_batches=micro_batches, likelihood=likelihood
    )

    def score(params: Params, rows: Batch) -> Array:
        return statistics(params, rows)["logprobs"]

    return score


def model_rows(rows: Batch) -> Batch:
    """What `score` reads of a batch."""
    names = ("tokens", "positions", "segment_ids", "mask", "temperature")
    names += (LIKELIHOOD_KEYS, LIKELIHOOD_EPOCH, FILL_STEPS)
    return {name: rows[name] for name in names if name in rows}


def _layout(rows: Batch) -> GroupLayout:
    """The layout of group rows with mask [B, G, T]."""
    _, samples, length = rows["mask"].shape
    slots = rows["tokens"].shape[1]
    if slots <= samples * length:
        raise ValueError(
            f"Rows of {slots} slots hold no prompt before {samples} completions of {length} slots: "
            f"mask has shape {rows['mask'].shape}, tokens {rows['tokens'].shape}."
        )
    return GroupLayout(prompt_slots=slots - samples * length, samples=samples)


def _completions(hidden: Array, tokens: Array, layout: GroupLayout) -> tuple[Array, Array]:
    """Group rows [B, P + G * T, D] and [B, P + G * T] -> [B, G * T, D] and [B, G * T].

    The second holds the tokens of all completions, the first what is one token before each.
    """
    prompt, own = layout.split(hidden)
    first = jnp.broadcast_to(prompt[:, None, -1:], own[:, :, :1].shape)
    before = jnp.concatenate([first, own[:, :, :-1]], axis=2)
    slots = tokens[:, layout.prompt_slots :]
    return before.reshape(*slots.shape, -1), slots
