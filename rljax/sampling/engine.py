"""A sampler at work on a mesh: its weights, its programs by shape, and requests from the host."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding

from rljax.models.finite import first_not_finite
from rljax.models.network import Network, Params
from rljax.parallel.host import to_host
from rljax.parallel.rules import batch_sharding, put_rows, rows_divisor
from rljax.sampling.checks import (
    check_guide_prompts,
    check_memory,
    check_requests,
    first_not_finite_token,
)
from rljax.sampling.config import SamplingConfig
from rljax.sampling.constraints import Constraint
from rljax.sampling.diffusion import make_diffusion_sampler
from rljax.sampling.diffusion_config import DiffusionConfig
from rljax.sampling.guides import Guide
from rljax.sampling.request import Requests, Rollouts
from rljax.sampling.sampler import GuideModel, make_sampler
from rljax.sampling.weights import sampling_network, sampling_weights, weight_shardings

# Prompts are padded to one of these lengths, or to one of them times a power of 2.
SMALLEST_BUCKET = 16


class Engine:
    """Samples on one mesh with one configuration.

        engine = Engine(network, config, mesh)
        weights = engine.load(params)                      # once after each update
        rollouts = engine.sample(weights, requests, key=key, step=step)

    A program is compiled for each bucket of prompt lengths and each number of prompts.
    """

    def __init__(
        self,
        network: Network,
        config: SamplingConfig | DiffusionConfig,
        mesh: Mesh,
        *,
        weights: str = "",
        gather_weights: bool = True,
        guide: Guide | None = None,
        guide_networks: tuple[Network, ...] = (),
        stop_strings: Constraint | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        """Builds the programs; nothing is compiled yet.

        Args:
            network: of the trainer.
            config: static settings; which of the two decides how is decoded.
            mesh: of the sampler; the trainer's, or another one over the same devices.
            weights: their precision (weights.py).
            gather_weights: whether they are whole over fsdp.
            guide, guide_networks: see `make_sampler`.
            stop_strings, constraint: of every call.

        Raises:
            ValueError: for a setting that cannot work, or that diffusion never reads.
        """
        self.network = sampling_network(network, weights)
        self.config, self.mesh = config, mesh
        self._precision, self._gather = weights, gather_weights
        watchers = {"stop_strings": stop_strings, "constraint": constraint}
        self._models = [self.network.config, *(each.config for each in guide_networks)]
        self._diffusion = isinstance(config, DiffusionConfig)
        if self._diffusion:
            given = {**watchers, "guide": guide, "guide_networks": guide_networks or None}
            unread = [name for name, value in given.items() if value is not None]
            if unread:
                raise ValueError(f"Masked diffusion never reads {', '.join(unread)}.")
            watchers = {}
            sampler = make_diffusion_sampler(self.network, config)
        else:
            sampler = make_sampler(self.network, config, guide=guide, guide_networks=guide_networks)
        self.watchers = watchers
        self.program = jax.jit(sampler, out_shardings=batch_sharding(mesh))
        self._prepare: Callable[[Params], Params] | None = None  # made from the first parameters

    def load(self, params: Params) -> Params:
        """The sampler's copy of the trainer's parameters, in its own layout and precision."""
        if self._prepare is None:
            self._prepare = self._preparation(params)
        return self._prepare(params)

    def _preparation(self, params: Params) -> Callable[[Params], Params]:
        shardings = self.shardings(params)
        mesh = getattr(jax.tree.leaves(params)[0].sharding, "mesh", self.mesh)
        # Under another mesh of the same devices it is one program too: nothing is held twice, and
        # only what a device lacks of its part is sent.
        if mesh.devices.flatten().tolist() == self.mesh.devices.flatten().tolist():
            return jax.jit(self.prepared, out_shardings=shardings)
        prepared = jax.jit(self.prepared)
        return lambda params: jax.device_put(prepared(params), shardings)

    def prepared(self, params: Params) -> Params:
        """See `sampling_weights`."""
        apart = not self._diffusion  # whose passes are over whole rows
        return sampling_weights(self.network, params, self._precision, apart=apart)

    def shardings(self, params: Params) -> Params:
        """The shardings of `load(params)`; params may be shapes."""
        return self.placement(jax.eval_shape(self.prepared, params))

    def placement(self, weights: Params) -> Params:
        """The shardings of what `prepared` has made; weights may be shapes."""
        return weight_shardings(self.network, weights, self.mesh, gather=self._gather)

    def sample(
        self,
        weights: Params,
        requests: Requests,
        *,
        key: Array,
        step: int,
        guide_models: tuple[GuideModel, ...] = (),
    ) -> Rollouts:
        """Answers the requests of B prompts.

        Args:
            weights: from `load`.
            requests: NumPy arrays; any B, and P as long as the longest prompt or longer.
            key: of a random stream (keys.py).
            step: counted over the run.
            guide_models: one for each of the guide's further networks; prompts of their own, B of
                them, are NumPy arrays.

        Returns:
            NumPy arrays [B, G, T].

        Raises:
            ValueError: for requests that cannot be answered, or do not fit into memory.
                Also for log-probabilities that are not finite, with the layer they come from.
        """
        check_requests(requests, self.config, self.network.config.vocab_size)
        shards, count = rows_divisor(self.mesh), len(requests.prompts)
        padded = fill_rows(in_bucket(requests), math.ceil(count / shards) * shards)
        rows, slots = padded.prompts.shape
        if not self._diffusion:
            check_memory(self._models, self.config, rows, slots, self.mesh, shards)
        # A key of another mesh comes over the host, which every process has whole.
        elsewhere = _is_elsewhere(key, self.mesh)
        numbers = np.asarray(jax.random.key_data(key)) if elsewhere else None
        with jax.set_mesh(self.mesh):
            placed = put_rows(padded, self.mesh)
            if numbers is not None:
                key = jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(key))
            models = (self._with_prompts(guide_models, count, rows),) if guide_models else ()
            rollouts = self.program(weights, placed, key, jnp.int32(step), *models, **self.watchers)
            rollouts = jax.tree.map(lambda x: x[:count], to_host(rollouts))
            self._check_finite(weights, requests, rollouts, step)
        return rollouts

    def _check_finite(
        self, weights: Params, requests: Requests, rollouts: Rollouts, step: int
    ) -> None:
        """Raises ValueError for the first token whose log-probability is not finite."""
        place = first_not_finite_token(rollouts)
        if place is None:
            return
        prompt, sample, token = place
        # Token by token what was written before decides; masked diffusion sees all of it.
        written = rollouts.tokens[prompt, sample][: None if self._diffusion else token]
        read = requests.prompts[prompt][requests.prompt_mask[prompt]]
        found = first_not_finite(self.network, weights, np.concatenate([read, written]))
        found = found or "computed once more, layer by layer, everything is finite"
        raise ValueError(
            f"Token {token} of sample {sample} of prompt {prompt} in step {step} has a "
            f"log-probability that is no finite number: {found}. Parameters or a dtype are wrong "
            "(config.model.init_from, config.model.dtype)."
        )

    def _with_prompts(
        self, guide_models: tuple[GuideModel, ...], count: int, rows: int
    ) -> tuple[GuideModel, ...]:
        """Those that have prompts of their own get as many as the policy, in a bucket."""
        models = list(guide_models)
        for number, model in enumerate(models):
            if model.prompts is None:
                continue
            vocab_size = self.network.config.vocab_size
            check_guide_prompts(model.prompts, model.prompt_mask, count, vocab_size, number)
            own = Requests(model.prompts, model.prompt_mask, np.zeros(count, np.int32))
            own = put_rows(fill_rows(in_bucket(own), rows), self.mesh)
            models[number] = model._replace(prompts=own.prompts, prompt_mask=own.prompt_mask)
        return tuple(models)


def _is_elsewhere(key: Array, mesh: Mesh) -> bool:
    """Whether a key is of another mesh, such as the trainer's, also over the same devices."""
    other = isinstance(key.sharding, NamedSharding) and key.sharding.mesh != mesh
    return other or not key.devices() <= set(mesh.devices.flat)


def bucket(length: int) -> int:
    """The next larger of 16, 24, 32, 48, 64, 96, ...: no more than a third is padding."""
    size = SMALLEST_BUCKET
    while size < length:
        size *= 2
    return size * 3 // 4 if size > SMALLEST_BUCKET and length <= size * 3 // 4 else size


def in_bucket(requests: Requests) -> Requests:
    """With prompts of the length of the longest one's bucket."""
    prompts, mask = requests.prompts, requests.prompt_mask
    wanted, slots = bucket(int(mask.sum(axis=1).max())), prompts.shape[1]
    fill = max(wanted - slots, 0)
    prompts, mask = (np.pad(x, ((0, 0), (fill, 0)))[:, -wanted:] for x in (prompts, mask))
    return requests._replace(prompts=prompts, prompt_mask=mask)


def fill_rows(requests: Requests, rows: int) -> Requests:
    """Requests with copies of the last prompt, so that the shards of rows get equally many."""
    missing = rows - len(requests.prompts)
    if not missing:
        return requests
    return jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]), requests)
