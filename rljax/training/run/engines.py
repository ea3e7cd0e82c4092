"""Which sampler a network has: token by token, or masked diffusion where it sees both ways; and
what ends its completions at strings.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from rljax.config.fields import Field
from rljax.config.schema import DIFFUSION, SAMPLER
from rljax.config.stage import Stage
from rljax.data.tokenizers import Tokenizer, check_round_trip
from rljax.models.config import ModelConfig
from rljax.objectives.masking import MASKINGS
from rljax.sampling.automaton import TokenAutomaton
from rljax.sampling.config import SamplingConfig
from rljax.sampling.diffusion_config import DiffusionConfig
from rljax.sampling.distribution import TokenFilter, token_bias
from rljax.sampling.stop_strings import stop_string_automaton
from rljax.sampling.vocabulary import text_only

# Fields of config.sampler that a network of either kind reads; `diffusion` is checked by itself.
OF_BOTH = ("weights", "gather_weights", "mesh")


def sampling_config(
    model: ModelConfig,
    settings: ConfigDict,
    *,
    samples_per_prompt: int,
    max_new_tokens: int,
    stop_tokens: tuple[int, ...],
    pad_token: int,
    token_filter: TokenFilter,
    stop_strings: tuple[str, ...] = (),
) -> SamplingConfig | DiffusionConfig:
    """What selects the sampling program of a network.

    Args:
        model: of the network; its `causal` decides which of the two it is.
        settings: `config.sampler`.
        samples_per_prompt: G.
        max_new_tokens: T.
        stop_tokens: ids that end a completion.
        pad_token: id after the end.
        token_filter: of the stage's `sampling`, or of the evaluation.
        stop_strings: of the stage's `sampling`.

    Raises:
        ValueError: for a setting that networks of this kind never read, or that cannot be.
    """
    check_sampler(model, settings)
    sizes = dict(
        samples_per_prompt=samples_per_prompt,
        max_new_tokens=max_new_tokens,
        stop_tokens=stop_tokens,
        pad_token=pad_token,
    )
    if model.causal:
        return SamplingConfig(
            **sizes,
            token_filter=token_filter,
            slots=settings.slots,
            refill_every=settings.refill_every,
            shrink=tuple(settings.shrink),
            prefill_tokens=settings.prefill_tokens,
            cache_dtype=settings.cache,
        )
    _check_filter(token_filter, stop_strings)
    given = {name: value for name, value in settings.diffusion.items() if value is not None}
    if model.mask_token < 0:
        raise ValueError(
            "A network with causal=False is decoded by filling masked positions: set the id of its "
            "mask token (config.model.mask_token)."
        )
    whole = {"block_tokens": max_new_tokens, "steps": max_new_tokens}
    return DiffusionConfig(
        **sizes,
        mask_token=model.mask_token,
        shift_logits=model.shift_logits,
        temperature=token_filter.temperature,
        textless=token_filter.textless,
        **(whole | given),
    )


def with_text_only(stage: Stage, model: ModelConfig, samplable: np.ndarray) -> Stage:
    """The stage with a filter under which its samples, and their log-probabilities, are of text.

    Args:
        stage: changed if it samples its own training data.
        model: that it trains.
        samplable: [V] bool (sampling/vocabulary.py).

    Raises:
        ValueError: if no token is left that may be sampled.
    """
    if not stage.online:
        return stage
    token_filter = text_only(stage.token_filter, samplable)
    token_bias(token_filter, model.vocab_size)
    return dataclasses.replace(stage, token_filter=token_filter)


def stop_automaton(
    strings: tuple[str, ...], tokenizer: Tokenizer, vocab_size: int
) -> TokenAutomaton | None:
    """What ends a completion at one of the strings; None without any.

    Args:
        strings: `stop_strings` of a stage's `sampling`.
        tokenizer: of the run.
        vocab_size: of the network.

    Raises:
        ValueError: for a string that the tokenizer cannot spell.
    """
    if not strings:
        return None
    for text in strings:
        check_round_trip(text, tokenizer, "config.<stage>.sampling.stop_strings")
    return stop_string_automaton(strings, tokenizer.token_bytes(), vocab_size=vocab_size)


def check_mask_token(model: ModelConfig, tokenizer: Tokenizer) -> None:
    """Raises ValueError for a mask token that texts may hold.

    Args:
        model: of the network.
        tokenizer: of the run.
    """
    token, known = model.mask_token, tokenizer.known()
    if token < 0 or token >= len(known) or not known[token]:
        return
    if tokenizer.token_text(token) not in tokenizer.control_tokens:
        raise ValueError(
            f"mask_token={token} is the token {tokenizer.token_text(token)!r} of the tokenizer, "
            "which texts may hold: it must be a control token, or an id that the tokenizer does "
            "not have (config.model.mask_token)."
        )


def check_sampler(model: ModelConfig, settings: ConfigDict) -> None:
    """Raises ValueError for a field of `config.sampler` that the network's sampler never reads."""
    kind, where = f"causal={model.causal}", "config.sampler"
    if model.causal:
        where, settings, fields = f"{where}.diffusion", settings.diffusion, DIFFUSION
    else:
        fields = {
            name: field
            for name, field in SAMPLER.items()
            if isinstance(field, Field) and name not in OF_BOTH
        }
    for name, field in fields.items():
        if settings[name] != field.default:
            raise _never_read(f"{where}.{name}", settings[name], kind)


def check_canvases(stages: Iterable[Stage], settings: ConfigDict) -> None:
    """Raises ValueError where an update scores samples otherwise than the sampler fills them.

    That is in other blocks, in more or fewer passes than a trajectory has runs of steps, or under
    another guidance.

    Args:
        stages: of the run.
        settings: `config.sampler`.
    """
    for stage in stages:
        if stage.online and "masking" in stage.objective.values:
            _check_blocks(stage, settings.diffusion.block_tokens or stage.max_new_tokens)
            _check_trajectory(stage, settings.diffusion.steps or stage.max_new_tokens)
            _check_guidance(stage, settings.diffusion.cfg_scale or 0.0)


def _check_blocks(stage: Stage, filled: int) -> None:
    values, canvas = stage.objective.values, stage.max_new_tokens
    hidden, reads = values["mask_block"] or canvas, MASKINGS[values["masking"]].reads
    # What does not divide the canvas the sampler refuses by itself.
    if "mask_block" in reads and hidden != filled and canvas % filled == 0:
        raise ValueError(
            f"masking={values['masking']!r} hides blocks of {hidden} tokens, and the sampler fills "
            f"blocks of {filled}: mask_block must be {filled}, or block_tokens {hidden} "
            f"(config.{stage.name}.objective.mask_block, config.sampler.diffusion.block_tokens)."
        )


def _check_trajectory(stage: Stage, steps: int) -> None:
    values = stage.objective.values
    shrink = values["trajectory_shrink"]
    runs = math.ceil(min(steps, stage.max_new_tokens) / shrink)
    if values["masking"] == "trajectory" and values["mask_draws"] != runs:
        where = f"config.{stage.name}.objective"
        raise ValueError(
            f"masking='trajectory' has a pass for each run of trajectory_shrink={shrink} steps: of "
            f"{steps} steps on {stage.max_new_tokens} tokens mask_draws must be {runs}, got "
            f"{values['mask_draws']} ({where}.mask_draws, config.sampler.diffusion.steps)."
        )


def _check_guidance(stage: Stage, sampled: float) -> None:
    scored = stage.objective.values["guidance_scale"]
    if scored != sampled:
        raise ValueError(
            f"The sampler is guided by cfg_scale={sampled}, and guidance_scale={scored} scores "
            f"what it writes: set both alike (config.{stage.name}.objective.guidance_scale, "
            "config.sampler.diffusion.cfg_scale)."
        )


def _check_filter(token_filter: TokenFilter, stop_strings: tuple[str, ...]) -> None:
    """Raises ValueError unless tokens are drawn at a temperature and nothing else."""
    plain, rule = TokenFilter(), token_filter.entropy_temperature
    fields = ("top_k", "top_p", "min_p", "logit_bias", "forbidden_tokens")
    given = {name: (getattr(token_filter, name), getattr(plain, name)) for name in fields}
    given["entropy_theta"] = (rule.theta if rule else 0.0, 0.0)
    given["stop_strings"] = (stop_strings, ())
    for name, (value, default) in given.items():
        if value != default:
            raise _never_read(f"config.<stage>.sampling.{name}", value, "causal=False")


def _never_read(where: str, value: Any, kind: str) -> ValueError:
    decoding = {"causal=True": "token by token", "causal=False": "by masked diffusion"}[kind]
    return ValueError(
        f"{where}={value!r} is never read: a network with {kind} is decoded {decoding} "
        f"({where}, config.model.causal)."
    )
