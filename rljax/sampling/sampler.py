"""The sampler: one program that prefills prompts, decodes their samples and refills ended slots.

    prompts ─► prefill (models/prefill.py) ─► caches of B prompts, one hidden state each
    queue of B * G requests ─► slots ─┐
        ▲                             ├─ choose a token (choose.py)
        │ every few steps             │  decode it (models/decoding.py)
        └──────── ended rows ◄────────┘  ─► results, in the order of the requests

A sample depends on (parameters, prompt, key, step, prompt id, sample id) only: not on the batch
around it, its slot, padding or mesh, up to float rounding of the logits.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from rljax.models.decoding import Decoder, PromptCache, check_decodable
from rljax.models.network import Network, Params
from rljax.models.prefill import prefill
from rljax.parallel.rules import row_shards
from rljax.sampling.config import SamplingConfig
from rljax.sampling.constraints import Constraint
from rljax.sampling.guides import Guide
from rljax.sampling.jobs import make_jobs, make_starts
from rljax.sampling.program import run
from rljax.sampling.request import Requests, Rollouts
from rljax.sampling.state import Program, Sizes


class GuideModel(NamedTuple):
    """One of the models whose logits a guide combines."""

    params: Params
    prompts: Array | None = None  # [B, P'] i32, padded on the left; None: those of the policy
    prompt_mask: Array | None = None  # [B, P'] bool


Sampler = Callable[..., Rollouts]


def make_sampler(
    network: Network,
    config: SamplingConfig,
    *,
    guide: Guide | None = None,
    guide_networks: tuple[Network, ...] = (),
) -> Sampler:
    """Builds the pure sampling function; jit it once per shape.

    Args:
        network: of the policy.
        config: static settings.
        guide: combines the logits of several models (guides.py).
        guide_networks: of the guide's models 1, 2, ...

    Returns:
        sample(params, requests, key, step, guide_models=(), stop_strings=None, constraint=None)
        -> Rollouts

        params: of the policy; or from `Network.unstack`, which saves a copy for each call.
        requests: B prompts (request.py). Under a mesh B divides by its shards of rows.
        key: of a stream (keys.py). step: [] i32, counted over the run.
        guide_models: `GuideModel` for each of `guide_networks`.
        stop_strings, constraint: `Constraint`s (constraints.py). Both may end a row; they differ in
            the stop reason only.

    Raises:
        ValueError: for settings or networks that cannot work.
    """
    networks = (network, *guide_networks)
    check_decodable([each.config for each in networks])
    config.check_vocabulary(network.config.vocab_size)
    if guide is not None and guide.models != len(networks):
        raise ValueError(
            f"The guide combines {guide.models} models, but {len(networks)} networks are given, "
            "the policy included (guide_networks)."
        )
    if guide is None and guide_networks:
        raise ValueError("guide_networks are never read without a guide (guide).")

    def sample(
        params: Params,
        requests: Requests,
        key: Array,
        step: Array,
        guide_models: tuple[GuideModel, ...] = (),
        stop_strings: Constraint | None = None,
        constraint: Constraint | None = None,
    ) -> Rollouts:
        _check_guide_models(guide_networks, guide_models)
        models = [GuideModel(params, requests.prompts, requests.prompt_mask)]
        models += [
            model._replace(prompts=requests.prompts, prompt_mask=requests.prompt_mask)
            if model.prompts is None
            else model
            for model in guide_models
        ]
        pairs = zip(networks, models, strict=True)
        decoders, caches, hidden = zip(
            *(_compute_prompts(network, model, config) for network, model in pairs), strict=True
        )
        count, shards = len(requests.prompts), row_shards()
        watchers, guide_state = (stop_strings, constraint), _guide_state(guide, requests)
        vocab_size = network.config.vocab_size
        return run(
            Program(
                config=config,
                sizes=Sizes.of(config, count, shards),
                decoders=decoders,
                prompts=caches,
                guide=guide,
                watchers=watchers,
                jobs=make_jobs(requests, config, key, step, shards),
                starts=make_starts(
                    requests, config, hidden, watchers, guide_state, vocab_size, shards
                ),
            )
        )

    return sample


def _check_guide_models(
    guide_networks: tuple[Network, ...], guide_models: tuple[GuideModel, ...]
) -> None:
    if len(guide_models) != len(guide_networks):
        raise ValueError(
            f"There are {len(guide_networks)} guide_networks, but the parameters of "
            f"{len(guide_models)} models (guide_models)."
        )


def _compute_prompts(
    network: Network, model: GuideModel, config: SamplingConfig
) -> tuple[Decoder, PromptCache, Array]:
    """A model ready to decode: its keys and values of the prompts, and their last hidden states."""
    params = model.params
    if not isinstance(params["blocks"], tuple):
        params = network.unstack(params)
    slots = model.prompts.shape[1] + config.max_new_tokens
    decoder = Decoder.of(network, params, slots)
    cache, hidden = prefill(
        decoder,
        model.prompts,
        model.prompt_mask.sum(axis=1),
        shards=row_shards(),
        chunk_tokens=config.prefill_tokens,
        cache_dtype=config.cache_dtype,
    )
    return decoder, cache, hidden


def _guide_state(guide: Guide | None, requests: Requests) -> Any:
    """The guide's state [B, ...] with which the rows of each prompt begin.

    Raises:
        ValueError: for continued completions, whose tokens the guide has not seen.
    """
    state = () if guide is None else guide.start(len(requests.prompts))
    if requests.continued is not None and jax.tree.leaves(state):
        raise ValueError(
            f"{type(guide).__name__} carries a state over the tokens of a row, which a continued "
            "completion does not bring along (requests.continued, guide)."
        )
    return state
