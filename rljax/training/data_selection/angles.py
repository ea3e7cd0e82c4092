"""How parallel the token vectors of problems are in a model: the ranking of GAIN-RL."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from rljax.data.batches import equal_batches
from rljax.data.encode import pad_completions
from rljax.models.network import Network, Params
from rljax.objectives.angles import angle_signal, mean_angle
from rljax.parallel.host import to_host
from rljax.sampling.engine import bucket


class Angles(NamedTuple):
    """What the angles of N prompts are. [N] f32."""

    signal: np.ndarray  # by which problems are ranked
    angle: np.ndarray  # mean cosine of the whole prompt


def prompt_angles(
    network: Network,
    params: Params,
    prompts: Sequence[Sequence[int]],
    *,
    mesh: Mesh,
    shared_weight: float,
    pad_id: int,
    rows: int,
) -> Angles:
    """The angles of prompts, one prefill of each; nothing is generated.

    Args:
        network: a language model.
        params: of it.
        prompts: N lists of ids. What all of them begin with counts as the system prompt, what all
            end with as the template: neither is part of a question.
        mesh: of the parameters.
        shared_weight: of the cosines with the system prompt.
        pad_id: fills rows.
        rows: prompts of a pass.
    """
    before, behind = shared_ends(prompts)

    @jax.jit
    def program(
        params: Params, tokens: Array, present: Array, question: Array, shared: Array
    ) -> tuple:
        positions = jax.numpy.arange(tokens.shape[1])[None].repeat(len(tokens), axis=0)
        model = network.bind(params)
        states = model.last_mlp_inputs(tokens, positions, present.astype(jax.numpy.int32))
        signal = jax.vmap(
            lambda own, asked, given: angle_signal(own, asked, given, shared_weight=shared_weight)
        )(states, question, shared)
        return signal, jax.vmap(mean_angle)(states, present)

    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    found = []
    for places in equal_batches(len(prompts), rows):
        own = [list(prompts[order[place]]) for place in places]
        room = bucket(max(map(len, own)))
        tokens, present = pad_completions(own, pad_id, max_new_tokens=room)
        slot, lengths = np.arange(room), present.sum(axis=1)[:, None]
        shared = present & (slot < before)
        question = present & (slot >= before) & (slot < lengths - behind)
        with jax.set_mesh(mesh):
            found.append(to_host(program(params, tokens, present, question, shared)))
    back = np.argsort(order)
    signal, angle = (
        np.concatenate(each)[: len(prompts)][back] for each in zip(*found, strict=True)
    )
    return Angles(signal, angle)


def shared_ends(prompts: Sequence[Sequence[int]]) -> tuple[int, int]:
    """How many tokens all prompts begin with, and end with, so that each keeps one of its own."""
    room = min(map(len, prompts)) - 1
    before = _agreeing(prompts, room)
    behind = _agreeing([prompt[::-1] for prompt in prompts], room - before)
    return before, behind


def _agreeing(prompts: Sequence[Sequence[int]], most: int) -> int:
    first = prompts[0]
    for place in range(most):
        if any(prompt[place] != first[place] for prompt in prompts):
            return place
    return max(most, 0)
