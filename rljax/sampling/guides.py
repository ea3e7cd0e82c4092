"""Guided decoding: how the logits of several models become the logits that are sampled from.

A *guide* is asked once per token, before temperature and truncation. Each rule of the literature
is a function in `guide_rules.py` and a thin class here that holds its hyper-parameters:

| class | function | added to the policy's logits | models, in order |
| --- | --- | --- | --- |
| `ValueAugmented` | `value_augmented` | values of its top-k tokens | policy, value heads |
| `RewardGuided` | `reward_guided` | log-probabilities of reward models | policy, reward models |
| `DiscriminatorGuided` | `discriminator_guided` | log P(class) | policy, desired, undesired |
| `LogitFusion` | `fused_logits` | what training changed in a small model | large, small, experts |
| `Combined` | yours | anything | policy, others |

All models share one vocabulary. Logits are finite, [N, V] f32. Log-probabilities under the policy
alone and under the guided distribution differ: code that trains on them must say which it uses.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from rljax.sampling.guide_rules import (
    ClassSums,
    desired_logprobs,
    discriminator_guided,
    fused_logits,
    penalised_repetitions,
    reward_guided,
    shifted_to_peak,
    value_augmented,
)

State = Any  # pytree of arrays [N, ...]
# (model, candidates [N, k] i32) -> [N, k] f32: the score that the value head of that model gives
# each row with a candidate appended.
Peek = Callable[[int, Array], Array]


class Guide(Protocol):
    """Combines the logits of several models, of which number 0 is the policy."""

    @property
    def models(self) -> int:
        """How many models take part, the policy included."""
        ...

    @property
    def heads(self) -> tuple[str, ...]:
        """One of "language_model" and "value" per model; the policy is a language model.

        A model with a value head has no logits: `logits` below lists the language models only, in
        the order of `heads`. Its scores are read through `peek`.
        """
        ...

    def start(self, rows: int) -> State:
        """The state of `rows` rows before their first token."""
        ...

    def combine(self, logits: Sequence[Array], state: State, peek: Peek) -> Array:
        """One [N, V] f32 of raw logits per language model -> [N, V] f32."""
        ...

    def advance(self, logits: Sequence[Array], state: State, tokens: Array) -> State:
        """The state after tokens [N] i32 were chosen, given the logits that they came from."""
        ...


def _static(default: Any) -> Any:
    """A field that is part of the program: guides are pytrees without leaves, and hashable."""
    return struct.field(pytree_node=False, default=default)


def _finite(*numbers: Any) -> bool:
    return all(isinstance(number, Real) and math.isfinite(number) for number in numbers)


def _numbers(value: Any, length: int | None = None) -> bool:
    """Whether `value` is a tuple of finite numbers, of that length or not empty."""
    right_length = isinstance(value, tuple) and len(value) == (length or max(1, len(value)))
    return right_length and _finite(*value)


class _Guide:
    """What most guides share: language models only, and no state."""

    models: int

    @property
    def heads(self) -> tuple[str, ...]:
        return ("language_model",) * self.models

    def start(self, rows: int) -> State:
        return ()

    def advance(self, logits: Sequence[Array], state: State, tokens: Array) -> State:
        return state

    def _check(self, field: str, ok: bool, allowed: str) -> None:
        if not ok:
            raise ValueError(
                f"{type(self).__name__}.{field} must be {allowed}, got {getattr(self, field)!r}."
            )

    def _language_models(self, logits: Sequence[Array]) -> list[Array]:
        """The logits, checked: one array for each language model, all of one shape."""
        expected = self.heads.count("language_model")
        shapes = {array.shape for array in logits}
        if len(logits) != expected or len(shapes) != 1:
            raise ValueError(
                f"{type(self).__name__} combines logits [N, V] of {expected} language models with "
                f"one vocabulary; got shapes {[array.shape for array in logits]}."
            )
        return list(logits)


@struct.dataclass
class ValueAugmented(_Guide):
    """Values of the policy's likeliest tokens, see `value_augmented`. No state.

    Attributes:
        beta: strength; a tuple has one per value head, whose values are added up.
        top_k: tokens that get a value; each costs one more token of the value model per step.
    """

    beta: float | tuple[float, ...] = _static(3.0)
    top_k: int = _static(20)

    def __post_init__(self) -> None:
        self._check("beta", _numbers(self._betas), "a finite number or a tuple of them")
        self._check("top_k", isinstance(self.top_k, int) and self.top_k >= 1, "an integer >= 1")

    @property
    def _betas(self) -> tuple[float, ...]:
        return self.beta if isinstance(self.beta, tuple) else (self.beta,)

    @property
    def models(self) -> int:
        return 1 + len(self._betas)

    @property
    def heads(self) -> tuple[str, ...]:
        return ("language_model", *["value"] * len(self._betas))

    def combine(self, logits: Sequence[Array], state: State, peek: Peek) -> Array:
        (policy,) = self._language_models(logits)
        self._check("top_k", self.top_k <= policy.shape[-1], f"<= {policy.shape[-1]} (vocabulary)")
        candidates = jax.lax.top_k(policy, self.top_k)[1]
        heads = enumerate(self._betas, start=1)
        values = sum(beta * peek(model, candidates) for model, beta in heads)
        return value_augmented(policy, values, candidates)


@struct.dataclass
class RewardGuided(_Guide):
    """Autoregressive reward models, see `reward_guided`. No state.

    Attributes:
        alphas: weight of each reward model.
        beta: strength of the KL to the policy.
    """

    alphas: tuple[float, ...] = _static((1.0,))
    beta: float = _static(1.0)

    def __post_init__(self) -> None:
        self._check("alphas", _numbers(self.alphas), "a tuple of finite numbers, one per model")
        self._check("beta", _finite(self.beta) and self.beta > 0, "finite and > 0")

    @property
    def models(self) -> int:
        return 1 + len(self.alphas)

    def combine(self, logits: Sequence[Array], state: State, peek: Peek) -> Array:
        policy, *arms = self._language_models(logits)
        return reward_guided(policy, arms, self.alphas, self.beta)


class DiscriminatorState(NamedTuple):
    """What is known of the completion so far; the prompt counts only if the sums start with it."""

    sums: ClassSums
    seen: Array  # [N, vocabulary_size] bool, tokens chosen so far


@struct.dataclass
class DiscriminatorGuided(_Guide):
    """A class-conditional language model under two codes, see `discriminator_guided`.

    Models 1 and 2 are the same parameters, their prompts begin with the desired and with the
    undesired code. The defaults are those of the paper; its repetition penalty of 1.2 is off. As
    there, that penalty counts the completion only; the sampler's own one counts the prompt too.

    Attributes:
        strength: omega, the weight of log P(desired).
        filter_p: mass below which the worst tokens are removed; 0 removes none.
        target_p: P(desired) from which on a token is kept.
        scale: learned factor of the class logits.
        biases: learned bias of the desired and of the undesired class.
        class_bias: added to the desired class logit and to the logit of `target_p`.
        repetition_penalty: of tokens already in the completion; 1 is none.
        peak: the largest logit before that penalty.
        vocabulary_size: V, needed with a repetition penalty only.
    """

    strength: float = _static(30.0)
    filter_p: float = _static(0.8)
    target_p: float = _static(0.8)
    scale: float = _static(1.0)
    biases: tuple[float, float] = _static((0.0, 0.0))
    class_bias: float = _static(0.0)
    repetition_penalty: float = _static(1.0)
    peak: float = _static(10.0)
    vocabulary_size: int = _static(0)

    models = 3

    def __post_init__(self) -> None:
        for field in ("strength", "scale", "class_bias"):
            self._check(field, _finite(getattr(self, field)), "a finite number")
        for field in ("filter_p", "target_p"):
            value = getattr(self, field)
            self._check(field, _finite(value) and 0 <= value <= 1, "in [0, 1]")
        for field in ("repetition_penalty", "peak"):
            value = getattr(self, field)
            self._check(field, _finite(value) and value > 0, "finite and > 0")
        self._check("biases", _numbers(self.biases, 2), "a tuple of two finite numbers")
        size = self.vocabulary_size
        self._check("vocabulary_size", isinstance(size, int) and size >= 0, "an integer >= 0")
        needed = not self._penalises or size > 0
        self._check("vocabulary_size", needed, "the model's with a repetition_penalty")

    @property
    def _penalises(self) -> bool:
        return self.repetition_penalty != 1

    @property
    def _target(self) -> float:
        """`target_p` with `class_bias` added to its logit."""
        odds = self.target_p * math.exp(self.class_bias)
        return odds / (odds + 1 - self.target_p)

    def start(self, rows: int) -> DiscriminatorState:
        zeros = jnp.zeros(rows, jnp.float32)
        sums = ClassSums(zeros, zeros, jnp.zeros(rows, jnp.int32))
        return DiscriminatorState(sums, jnp.zeros((rows, self.vocabulary_size), bool))

    def combine(self, logits: Sequence[Array], state: DiscriminatorState, peek: Peek) -> Array:
        policy, desired, undesired = self._language_models(logits)
        fits = not self._penalises or state.seen.shape == policy.shape
        self._check("vocabulary_size", fits, f"{policy.shape[-1]}")
        biases = (self.biases[0] + self.class_bias, self.biases[1])
        guided, _ = discriminator_guided(
            policy,
            desired_logprobs(desired, undesired, state.sums, scale=self.scale, biases=biases),
            strength=self.strength,
            filter_p=self.filter_p,
            target_p=self._target,
        )
        if not self._penalises:
            return guided
        peaked = shifted_to_peak(guided, self.peak)
        return penalised_repetitions(peaked, state.seen, self.repetition_penalty)

    def advance(
        self, logits: Sequence[Array], state: DiscriminatorState, tokens: Array
    ) -> DiscriminatorState:
        _, desired, undesired = self._language_models(logits)
        # Without a penalty there are no columns, and nothing is set.
        seen = state.seen | (jnp.arange(state.seen.shape[1]) == tokens[:, None])
        return DiscriminatorState(state.sums.add(desired, undesired, tokens), seen)


@struct.dataclass
class LogitFusion(_Guide):
    """Small experts steer a large model, see `fused_logits`. No state.

    Models: the large one, the small one, then the experts trained from the small one.

    Attributes:
        experts: how many there are.
        alphas: the grid of strengths, ascending.
    """

    experts: int = _static(1)
    alphas: tuple[float, ...] = _static(tuple(step / 10 for step in range(21)))

    def __post_init__(self) -> None:
        self._check("experts", isinstance(self.experts, int) and self.experts >= 1, ">= 1")
        ascending = _numbers(self.alphas) and (
            self.alphas[0] >= 0 and list(self.alphas) == sorted(set(self.alphas))
        )
        self._check("alphas", ascending, "an ascending tuple of finite numbers >= 0")

    @property
    def models(self) -> int:
        return 2 + self.experts

    def combine(self, logits: Sequence[Array], state: State, peek: Peek) -> Array:
        large, small, *experts = self._language_models(logits)
        return fused_logits(large, small, experts, alphas=self.alphas).logits


@struct.dataclass
class Combined(_Guide):
    """Any function of the logits. No state.

    Attributes:
        function: list of `models` arrays [N, V] f32 -> [N, V] f32, traced into the sampler.
        models: how many language models there are, the policy included.
    """

    function: Callable[[list[Array]], Array] = struct.field(pytree_node=False)
    models: int = struct.field(pytree_node=False, default=1)

    def __post_init__(self) -> None:
        self._check("function", callable(self.function), "a function of a list of logits")
        self._check("models", isinstance(self.models, int) and self.models >= 1, "an integer >= 1")

    def combine(self, logits: Sequence[Array], state: State, peek: Peek) -> Array:
        logits = self._language_models(logits)
        combined = self.function(logits)
        self._check("function", combined.shape == logits[0].shape, f"giving {logits[0].shape}")
        return combined
