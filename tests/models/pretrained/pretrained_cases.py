"""The committed checkpoints, and what is computed from them; imported by the tests beside it."""

import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.heads import sequence_rewards, token_values
from rljax.models.network import Network, Params

FIXTURES = Path(__file__).parent / "fixtures"
CASES = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())


class Computed(NamedTuple):
    """What a model makes of the rows of a fixture."""

    gradient: Params  # of the loss
    scores: Array
    hidden: Array  # [L + 1, N, S, D]


@dataclasses.dataclass(frozen=True)
class Case:
    """One checkpoint, loaded, and what transformers and we compute with it."""

    folder: Path
    network: Network
    params: Params
    rows: tuple[Array, Array, Array]  # tokens, positions, segment_ids
    theirs: Computed

    @functools.cached_property
    def ours(self) -> Computed:
        """In one program, since most of the time goes into compiling."""

        def loss_and_scores(params: Params) -> tuple[Array, Array]:
            scores = scores_of(self.network, params, self.rows)
            return loss_of(self.network, scores, self.rows), scores

        def compute(params: Params) -> Computed:
            gradient, scores = jax.grad(loss_and_scores, has_aux=True)(params)
            return Computed(gradient, scores, self.network.bind(params).hidden_states(*self.rows))

        return jax.jit(compute)(self.params)


def scores_of(network: Network, params: Params, rows: tuple[Array, Array, Array]) -> Array:
    """What the class in config.json calls its logits."""
    if network.config.head == "language_model":
        model = network.bind(params)
        return model.logits(model(*rows).hidden)
    score = sequence_rewards if network.config.head == "reward" else token_values
    return score(network, params, *rows)


def loss_of(network: Network, scores: Array, rows: tuple[Array, Array, Array]) -> Array:
    """The loss whose gradient make_fixtures.py stores."""
    tokens, _, segment_ids = rows
    real = segment_ids > 0
    if network.config.head == "reward":
        return 0.5 * jnp.mean(scores**2)
    if network.config.head != "language_model":
        return 0.5 * jnp.sum(scores**2 * real[..., None]) / (real.sum() * scores.shape[-1])
    logprobs = jax.nn.log_softmax(scores[:, :-1])
    taken = jnp.take_along_axis(logprobs, tokens[:, 1:, None], axis=-1)[..., 0]
    counts = real[:, :-1] & real[:, 1:]
    return -jnp.sum(taken * counts) / counts.sum()
