"""What a sampler is asked for, and what it answers. Every sampler shares these types.

B prompts, G samples each, room for P prompt tokens and T new ones.
"""

import enum
from typing import NamedTuple

from jax import Array


class StopReason(enum.IntEnum):
    """Why a row ended."""

    LENGTH = 0  # max_new_tokens reached
    STOP_TOKEN = 1
    STOP_STRING = 2
    CONSTRAINT = 3  # nothing may follow
    PAUSED = 4  # the budget of this call is used up; the row can be continued


class Requests(NamedTuple):
    """B prompts, each with G samples. Optional fields are None where they are not used.

    A prompt may end with completion tokens that were sampled earlier: `continued` of them. Its G
    samples then go on from there, with the noise, the limits and the state that they would have had
    in one go.
    """

    prompts: Array  # [B, P] i32, padded on the left
    prompt_mask: Array  # [B, P] bool, at least one True a row
    prompt_ids: Array  # [B] i32, address of the noise
    sample_ids: Array | None = None  # [B, G] i32, address of the noise; 0 .. G-1 by default
    continued: Array | None = None  # [B] i32, trailing prompt tokens that are completion
    temperature: Array | None = None  # [B, G] f32, instead of the filter's; 0 is greedy
    temperature_slopes: Array | None = None  # [B, 4] f32, see `sloped_temperature`
    min_new_tokens: Array | None = None  # [B, G] i32, `continued` ones included
    max_new_tokens: Array | None = None  # [B, G] i32, `continued` ones included; at most T more


def for_each_prompt(value: Array | None, prompts: int) -> Array | None:
    """[...] -> [B, ...], the same for each of B prompts, of NumPy or JAX; None stays None."""
    return None if value is None else value[None].repeat(prompts, axis=0)


class Rollouts(NamedTuple):
    """Samples of B prompts, G each, with room for T tokens. Produced on the device.

    Log-probabilities are natural logs of the taken token, 0 where masked. A greedy row takes its
    token with certainty: its `logprobs` and `entropy` are 0.
    """

    tokens: Array  # [B, G, T] i32, pad after the end
    mask: Array  # [B, G, T] bool, True on sampled tokens, the stop token included
    logprobs: Array  # [B, G, T] f32, under the distribution really sampled from
    model_logprobs: Array  # [B, G, T] f32, under the raw model
    tempered_logprobs: Array  # [B, G, T] f32, under the raw model's logits / temperature
    entropy: Array  # [B, G, T] f32, nats, of the distribution really sampled from
    temperature: Array  # [B, G, T] f32, which was used
    stop_reason: Array  # [B, G] i32, see `StopReason`
    slot_steps: Array  # [B] i32, slots x steps that the prompt's shard of rows has decoded in all
    top_logprobs: Array | None = None  # [B, G, T, k] f32, of the raw model, descending
    top_tokens: Array | None = None  # [B, G, T, k] i32
    fill_steps: Array | None = None  # [B, G, T] i32, of masked diffusion: the step of each token
    inserted: Array | None = None  # [B, G, T] bool, of episodes: read by the model, not sampled

    @property
    def finished(self) -> Array:
        """[B, G] bool, True where the sample ended by itself, not by a limit."""
        return (self.stop_reason != StopReason.LENGTH) & (self.stop_reason != StopReason.PAUSED)
