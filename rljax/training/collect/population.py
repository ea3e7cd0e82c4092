"""The answers of a population: every member decodes greedily with parameters of its own.

Prompts are dealt out in sets of Q; each set is answered by a group of G members, so that N = B / Q
* G members answer B prompts. Member n = s * G + g is member g of the group of set s.

    member           0   1   2   3          G = 2, Q = 2, B = 4
    prompts         0 1 0 1 2 3 2 3

The sampler is that of `sampling/sampler.py`, vmapped over the noise of the members and their
prompts, and not over the shared parameters.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from rljax.models.network import Network, Params
from rljax.parallel.host import to_host
from rljax.parallel.rules import batch_sharding, put_rows, rows_divisor
from rljax.sampling.automaton import TokenAutomaton
from rljax.sampling.checks import check_memory, check_requests
from rljax.sampling.engine import Engine, in_bucket
from rljax.sampling.request import Requests, Rollouts
from rljax.sampling.sampler import make_sampler
from rljax.training.collect.perturbation import Path, Perturbation, perturbed

# Tracing without a mesh: the rows of one member are not split, its members are.
NO_MESH = Mesh(np.empty((), object), ())


class Population:
    """Answers prompts with many members; its `sample` can stand where an engine's does."""

    def __init__(
        self,
        engine: Engine,
        perturbation: Perturbation,
        *,
        members_per_prompt: int,
        prompts_per_member: int = 1,
        rows_at_a_time: int = 0,
        stop_strings: TokenAutomaton | None = None,
    ) -> None:
        """Builds the program; nothing is compiled yet.

        Args:
            engine: of the policy: its settings, its mesh and its `load` are used.
            perturbation: of the trainer's network.
            members_per_prompt: G.
            prompts_per_member: Q.
            rows_at_a_time: answers decoded at a time on all devices together, about; 0: all.
            stop_strings: of every answer.
        """
        self.engine, self.perturbation = engine, perturbation
        self.members_per_prompt, self.prompts_per_member = members_per_prompt, prompts_per_member
        self.rows_at_a_time = rows_at_a_time
        self.config = dataclasses.replace(
            engine.config,
            samples_per_prompt=1,
            token_filter=dataclasses.replace(engine.config.token_filter, temperature=0.0),
            slots=0,
            shrink=(),
        )
        # In the precision of the sampler's weights, with the members' adapters.
        members, precision = perturbation.member_network.config, engine.network.config
        members = dataclasses.replace(
            members, dtype=precision.dtype, param_dtype=precision.param_dtype
        )
        sampler = make_sampler(Network.create(members), self.config)

        def answers(
            weights: Params,
            keys: Mapping[Path, Array],
            update: Array,
            members: Array,
            requests: Requests,
        ) -> Rollouts:
            noise = perturbation.noise(keys, update, members)

            def answer(noise: Mapping[Path, Array], requests: Requests) -> Rollouts:
                params = perturbed(weights, noise)
                return sampler(
                    params, requests, jax.random.key(0), update, stop_strings=stop_strings
                )

            return jax.vmap(answer)(noise, requests)

        self.program = jax.jit(answers, out_shardings=batch_sharding(engine.mesh))

    def load(self, params: Params) -> Params:
        """The shared parameters as the sampler reads them, as of `Engine.load`."""
        return self.engine.load(params)

    def sample(self, weights: Params, requests: Requests, *, key: Array, step: int) -> Rollouts:
        """The members' answers to B prompts.

        Args:
            weights: from `load`.
            requests: NumPy arrays, of B prompts; B divides by Q.
            key: of the noise of the members.
            step: the update of the noise, updates of the run before this one.

        Returns:
            NumPy arrays [B, G, T]; sample g of prompt b is the answer of member b // Q * G + g.

        Raises:
            ValueError: for requests that cannot be answered, or do not fit into memory.
        """
        check_requests(requests, self.config, self.engine.network.config.vocab_size)
        group, each = self.members_per_prompt, self.prompts_per_member
        sets = in_bucket(requests)
        count, slots = len(sets.prompts) // each * group, sets.prompts.shape[1]
        size = self._chunk(count)
        shards, mesh = rows_divisor(self.engine.mesh), self.engine.mesh
        check_memory([self.engine.network.config], self.config, size * each, slots, mesh, shards)
        sets = jax.tree.map(lambda x: x.reshape(-1, each, *x.shape[1:]), sets)
        keys, parts = self.perturbation.keys(key), []
        for start in range(0, count, size):
            # What fills the last chunk is the last member again.
            members = np.minimum(np.arange(start, start + size, dtype=np.int32), count - 1)
            of_members = jax.tree.map(lambda x: x[members // group], sets)  # noqa: B023
            placed = put_rows((members, of_members), mesh)
            with jax.set_mesh(NO_MESH):
                found = self.program(weights, keys, jnp.int32(step), *placed)
            parts.append(to_host(found))
        whole = jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)
        # Slots and steps belong to a member: those of a prompt's group are added up.
        slot_steps = self._by_prompt(whole.slot_steps).sum(axis=1)
        rollouts = whole._replace(slot_steps=whole.slot_steps[..., None])
        by_prompt = jax.tree.map(lambda x: self._by_prompt(x[:, :, 0]), rollouts)
        return by_prompt._replace(slot_steps=slot_steps)

    def _chunk(self, count: int) -> int:
        """Members evaluated at a time: as many on every shard of rows."""
        shards = rows_divisor(self.engine.mesh)
        wanted = min(self.rows_at_a_time // self.prompts_per_member or count, count)
        return math.ceil(wanted / shards) * shards

    def _by_prompt(self, x: np.ndarray) -> np.ndarray:
        """[N, Q, ...] of members -> [B, G, ...] of prompts."""
        group, each = self.members_per_prompt, self.prompts_per_member
        x = x.reshape(-1, group, each, *x.shape[2:]).swapaxes(1, 2)
        return x.reshape(-1, group, *x.shape[3:])
