"""Log-probabilities of chosen tokens, as the trainer sees them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.attention import GroupLayout
from rljax.models.network import Network, Params
from rljax.sampling.distribution import TokenFilter
from rljax.training.token_statistics import TokenStatistics, token_statistics
from rljax.training.train_step import Batch, split_micro_batches


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

        [N, T]     a row [N, S] ends with its T scored tokens (training/rows.py, data/packing.py)
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
        Statistics with the axes of the mask (training/token_statistics.py), of masked slots too.

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
    inputs = rows["tokens"], rows["positions"], rows["segment_ids"]
    if len(shape) == 3:
        layout = _layout(rows)
        encoded = model(*inputs, group=layout)
        before, targets = _completions(encoded.hidden, rows["tokens"], layout)
    else:
        encoded = model(*inputs)
        before, targets = encoded.hidden[:, -shape[1] - 1 : -1], rows["tokens"][:, -shape[1] :]
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
    return statistics._replace(routing=encoded.routing)


def make_score(
    network: Network, token_filter: TokenFilter, *, micro_batches: int
) -> Callable[[Params, Batch], Array]:
    """Builds score(params, rows) -> log-probabilities with the axes of the mask, no gradient.

    Rows are scored in `micro_batches` parts, one after the other, to bound the memory.
    """

    def part(params: Params, rows: Batch) -> Array:
        return completion_statistics(network, params, rows, token_filter).logprobs

    def score(params: Params, rows: Batch) -> Array:
        if micro_batches == 1:
            return part(params, rows)
        parts = jax.lax.map(
            lambda rows: part(params, rows), split_micro_batches(rows, micro_batches)
        )
        return parts.swapaxes(0, 1).reshape(rows["mask"].shape)

    return score


def model_rows(rows: Batch) -> Batch:
    """What `score` reads of a batch."""
    names = ("tokens", "positions", "segment_ids", "mask", "temperature")
    return {name: rows[name] for name in names if name in rows}


def _layout(rows: Batch) -> GroupLayout:
    """Of group rows with mask [B, G, T]."""
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
