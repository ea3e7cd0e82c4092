"""Small networks, prompts and compiled samplers that the tests of this folder share."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from rljax.models.config import ModelConfig
from rljax.models.network import Network, Params
from rljax.parallel.mesh import make_mesh
from rljax.sampling.config import SamplingConfig
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.guides import Guide
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.request import Requests, Rollouts
from rljax.sampling.sampler import make_sampler

VOCABULARY = 13
STOP, PAD = 2, 0
LENGTHS = (1, 6, 3, 4)  # of four prompts
KEY = purpose_key(0, Purpose.ROLLOUTS)
FILTER_FIELDS = tuple(TokenFilter.__dataclass_fields__)


@functools.cache
def network_of(**changes: Any) -> Network:
    """A network of one layer and a few thousand parameters."""
    sizes = dict(layers=1, width=16, heads=4, kv_heads=2, head_dim=8, mlp_width=24)
    # Tied embeddings of a network without training repeat the last token for ever.
    fields = dict(vocab_size=VOCABULARY, tied_embeddings=False, **sizes)
    return Network.create(ModelConfig(**{**fields, **changes}))


@functools.cache
def one_device() -> Mesh:
    """A mesh of a single device."""
    return make_mesh({"data": 1}, devices=jax.devices()[:1])


@functools.cache
def params_of(network: Network, seed: int = 1) -> Params:
    """Parameters whose distributions are far from uniform."""
    params = network.init(jax.random.key(seed), one_device())
    if network.config.head != "language_model":
        return params
    output = "embedding" if network.config.tied_embeddings else "output"
    return {**params, output: params[output] * 3}


def config_of(**fields: Any) -> SamplingConfig:
    """Fields of the token filter may be given among those of the config."""
    token_filter = TokenFilter(**{n: fields.pop(n) for n in FILTER_FIELDS if n in fields})
    defaults = dict(samples_per_prompt=3, max_new_tokens=7, stop_tokens=(STOP,), pad_token=PAD)
    fields = dict(shrink=()) | defaults | fields  # each width takes its time to compile
    return SamplingConfig(**fields, token_filter=token_filter)


def requests_of(
    lengths: tuple[int, ...] = LENGTHS,
    *,
    slots: int = 0,
    vocab_size: int = VOCABULARY,
    ids: Any = None,
    **fields: Any,
) -> Requests:
    """Requests whose prompt b depends on b and its length only; padding holds any tokens.

    Args:
        lengths: of the prompts.
        slots: P, if it is larger than the longest prompt.
        vocab_size: V.
        ids: prompt ids, 0 .. B-1 by default.
        **fields: further ones of `Requests`.
    """
    slots = max(slots, *lengths)
    tokens = np.random.default_rng(slots).integers(0, vocab_size, (len(lengths), slots))
    for row, length in enumerate(lengths):
        rng = np.random.default_rng(100 + row)
        tokens[row, slots - length :] = rng.integers(0, vocab_size, length)
    mask = np.arange(slots) >= slots - np.array(lengths)[:, None]
    ids = np.arange(len(lengths)) if ids is None else np.asarray(ids)
    return Requests(tokens.astype(np.int32), mask, ids.astype(np.int32), **fields)


def take(requests: Requests, rows: Any) -> Requests:
    """Some of the prompts, in this order."""
    return jax.tree.map(lambda x: x[rows], requests)


@functools.cache
def jit_sampler(
    network: Network,
    config: SamplingConfig,
    guide: Guide | None = None,
    guide_networks: tuple[Network, ...] = (),
) -> Any:
    """The same function for the same settings, so that it is compiled once per shape."""
    return jax.jit(make_sampler(network, config, guide=guide, guide_networks=guide_networks))


def sample(
    network: Network,
    params: Params,
    config: SamplingConfig,
    requests: Requests,
    *,
    key: Array = KEY,
    step: int = 4,
    guide: Guide | None = None,
    guide_networks: tuple[Network, ...] = (),
    **given: Any,
) -> Rollouts:
    """On the host; `given` are further arguments of the sampler."""
    run = jit_sampler(network, config, guide, guide_networks)
    return jax.device_get(run(params, requests, key, jnp.int32(step), **given))
