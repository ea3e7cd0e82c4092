"""The distribution that tokens are sampled from, used by the sampler and by the trainer.

Both sides call the same functions, so that the log-probability that the sampler reports is the one
that the trainer recomputes, under every filter. One exception remains: a token at the very edge of
a truncation (its mass ends within float rounding of top_p, say) may be kept by one side only.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# Finite, so that 0 * log p stays 0 and gradients stay finite; exp(EXCLUDED - max) is exactly 0.
EXCLUDED = -1e30

# No biased logit, divided by a temperature, comes near EXCLUDED or overflows.
LARGEST_BIAS = 1e15

# Where every token has a bias below this, float32 has lost what the logits said.
DROWNED = -1e6

# Added to an entropy before its logarithm is taken; as in HAPO's sampler.
SMALLEST_ENTROPY = 1e-6

_FIELD = "config.<stage>.sampling"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EntropyTemperature:
    """The temperature of a step as a function of the model's entropy H (EDT, arXiv:2403.14541).

        T = max(T0 * base ** (theta / H), lowest)

    T0 is the temperature of the filter, which T approaches where the model is unsure. `lowest` is
    not in the paper: without it T is 0, and the distribution has no density, where H is.

    Attributes:
        theta: how fast T falls with the entropy, in nats; 0 leaves T0.
        base: N of the paper, which fixes it at 0.8.
        lowest: no temperature is below it. At 0.1 a token that is 50 times as likely as the next
            one before is 1e17 times as likely after, so hardly any choice depends on it.
    """

    theta: float
    base: float = 0.8
    lowest: float = 0.1

    def __post_init__(self) -> None:
        checks = {
            "theta": (0 <= self.theta < math.inf, ">= 0 and finite"),
            "base": (0 < self.base < 1, "in (0, 1)"),
            "lowest": (0 < self.lowest < math.inf, "> 0 and finite"),
        }
        for field, (ok, allowed) in checks.items():
            if not ok:
                raise ValueError(
                    f"{field} must be {allowed}, got {getattr(self, field)} "
                    f"({_FIELD}.entropy_temperature.{field})."
                )

    def __call__(self, entropy: Array, temperature: float = 1.0) -> Array:
        """[...] f32 entropy of the raw model in nats -> [...] f32 temperature; T0 is given."""
        # An entropy of 0, or of a little less by rounding, gives `lowest`.
        exponent = self.theta / jnp.maximum(entropy, 1e-30)
        return jnp.maximum(temperature * jnp.exp(math.log(self.base) * exponent), self.lowest)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenFilter:
    """What is done to the model's logits before a token is drawn; the defaults leave its softmax.

    In this order: bias and forbidden tokens, temperature, top_k, top_p, min_p. Each truncation sees
    the renormalised result of the one before it.

    Attributes:
        temperature: logits are divided by it; 0 means greedy.
        top_k: keep the k most probable tokens (0: all). Ties with the k-th are kept.
        top_p: keep the smallest set of likeliest tokens whose mass reaches p (arXiv:1904.09751).
        min_p: keep tokens with probability >= min_p times the largest (arXiv:2407.01082).
        logit_bias: pairs (token, what is added to its logit).
        forbidden_tokens: never sampled, whatever their bias.
        textless: ranges (start, stop) of ids that have no text (vocabulary.py), such as rows that
            pad a vocabulary: never sampled, unless they have a bias.
        entropy_temperature: the temperature of each step follows from the entropy of the raw model;
            `temperature` is the highest one.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    forbidden_tokens: tuple[int, ...] = ()
    textless: tuple[tuple[int, int], ...] = ()
    entropy_temperature: EntropyTemperature | None = None

    def __post_init__(self) -> None:
        checks = {
            "temperature": (self.temperature >= 0, ">= 0 (0 is greedy)"),
            "top_k": (self.top_k >= 0, ">= 0 (0 keeps all)"),
            "top_p": (0 < self.top_p <= 1, "in (0, 1]"),
            "min_p": (0 <= self.min_p < 1, "in [0, 1)"),
        }
        for field, (ok, allowed) in checks.items():
            if not ok:
                raise ValueError(
                    f"{field} must be {allowed}, got {getattr(self, field)} ({_FIELD}.{field})."
                )
        _check_bias(self.logit_bias)
        _check_temperature(self)

    def at_temperature(self, temperature: float) -> "TokenFilter":
        """What may come, with its bias, at a temperature (0: greedy); nothing is truncated."""
        return TokenFilter(
            temperature=temperature,
            logit_bias=self.logit_bias,
            forbidden_tokens=self.forbidden_tokens,
            textless=self.textless,
        )

    @property
    def of_text(self) -> "TokenFilter":
        """The model's own softmax, at temperature 1, over the ids that have a text."""
        return TokenFilter(textless=self.textless)

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0

    @property
    def truncates(self) -> bool:
        """Whether top_k, top_p or min_p can exclude a token."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0

    @property
    def plain(self) -> bool:
        """Whether logits are only divided by a temperature, the same one in all steps."""
        changes = self.logit_bias or self.excludes or self.entropy_temperature is not None
        return not (self.truncates or changes)

    @property
    def excludes(self) -> bool:
        """Whether some tokens can never come, whatever their logits."""
        return bool(self.forbidden_tokens or self.textless)


def _check_bias(logit_bias: tuple[tuple[int, float], ...]) -> None:
    seen = set()
    for token, bias in logit_bias:
        if not abs(bias) <= LARGEST_BIAS:
            raise ValueError(
                f"The bias of token {token} must be finite, at most {LARGEST_BIAS:g} in size, got "
                f"{bias}; forbidden_tokens excludes a token ({_FIELD}.logit_bias)."
            )
        if token in seen:
            raise ValueError(
                f"Token {token} has more than one bias: {logit_bias} ({_FIELD}.logit_bias)."
            )
        seen.add(token)


def _check_temperature(token_filter: TokenFilter) -> None:
    """What does not go together with this temperature."""
    temperature, rule = token_filter.temperature, token_filter.entropy_temperature
    if token_filter.greedy and token_filter.truncates:
        neutral = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
        given = {field: getattr(token_filter, field) for field in neutral}
        reset = ", ".join(
            f"{field}={given[field]} to {neutral[field]}"
            for field in neutral
            if given[field] != neutral[field]
        )
        raise ValueError(
            "temperature=0 always takes the likeliest token, so there is no filtered distribution "
            f"to take log-probabilities of. Reset {reset}, or set temperature > 0 ({_FIELD})."
        )
    if rule is not None and not 0 < rule.lowest <= temperature:
        raise ValueError(
            f"temperature must be > 0 and >= entropy_temperature.lowest={rule.lowest}, got "
            f"{temperature} ({_FIELD}.temperature)."
        )


def token_bias(token_filter: TokenFilter, vocab_size: int) -> Array | None:
    """What is added to the logits of every token, a constant of the program.

    Returns:
        [V] f32, EXCLUDED for what never comes; None where nothing is biased or excluded.

    Raises:
        ValueError: for a token that is not in 0..V-1, or if no token is left.
    """
    if not (token_filter.logit_bias or token_filter.excludes):
        return None
    biased = tuple(token for token, _ in token_filter.logit_bias)
    for field, tokens in (
        ("logit_bias", biased),
        ("forbidden_tokens", token_filter.forbidden_tokens),
    ):
        for token in tokens:
            if not 0 <= token < vocab_size:
                raise ValueError(
                    f"{field} names token {token}, which must be in 0..{vocab_size - 1} "
                    f"(vocab_size={vocab_size}, {_FIELD}.{field})."
                )
    bias = np.zeros(vocab_size, np.float32)
    for start, stop in token_filter.textless:
        bias[start:stop] = EXCLUDED
    bias[list(biased)] = [value for _, value in token_filter.logit_bias]
    bias[list(token_filter.forbidden_tokens)] = EXCLUDED
    if bias.max() == EXCLUDED:
        raise ValueError(
            f"forbidden_tokens names all {vocab_size} tokens of the vocabulary, or all that have a "
            f"text: at least one must be left ({_FIELD}.forbidden_tokens)."
        )
    if bias.max() < DROWNED:
        raise ValueError(
            f"Every token that may come has a bias below {DROWNED:g}, the largest "
            f"{bias.max():g}: nothing is left of the model's logits, so leave at least one token "
            f"without such a bias ({_FIELD}.logit_bias)."
        )
    return jnp.asarray(bias)


def step_temperature(logits: Array, token_filter: TokenFilter) -> Array:
    """The temperature of each step under the filter, a constant for the gradient.

    Args:
        logits: [..., V] raw logits of the model, before any bias.
        token_filter: its `entropy_temperature` turns their entropy into a temperature.

    Returns:
        [...] f32
    """
    rule = token_filter.entropy_temperature
    if rule is None:
        return jnp.full(logits.shape[:-1], token_filter.temperature, jnp.float32)
    logits = jax.lax.stop_gradient(logits).astype(jnp.float32)
    return rule(entropy(jax.nn.log_softmax(logits, axis=-1)), token_filter.temperature)


def sloped_temperature(logits: Array, token_filter: TokenFilter, slopes: Array) -> Array:
    """A temperature that follows the log-entropy of each step (HAPO, arXiv:2509.16591, part A).

        T = T0 (1 + clip(s (log H - pivot), -limit, limit))

    s is `rise` above the pivot and `fall` below it; H is the entropy of the model at T0.

    Args:
        logits: [..., V] raw logits of the model, before any bias.
        token_filter: `temperature` is T0, > 0.
        slopes: [..., 4] f32: pivot, rise, fall, limit < 1. Zeros leave T0.

    Returns:
        [...] f32, a constant for the gradient.
    """
    pivot, rise, fall, limit = jnp.moveaxis(slopes, -1, 0)
    tempered = jax.lax.stop_gradient(logits).astype(jnp.float32) / token_filter.temperature
    spread = entropy(jax.nn.log_softmax(tempered, axis=-1))
    distance = jnp.log(jnp.maximum(spread, SMALLEST_ENTROPY)) - pivot
    change = jnp.where(distance > 0, rise, fall) * distance
    return token_filter.temperature * (1.0 + jnp.clip(change, -limit, limit))


def divisor(
    logits: Array, token_filter: TokenFilter, temperature: Array | None = None
) -> Array | float:
    """What the biased logits are divided by: one number, or [..., 1] f32 where slots differ.

    Args:
        logits: [..., V] raw logits of the model.
        token_filter: has the temperature, unless `temperature` is given.
        temperature: [...] f32. Slots with 0 get 1, so that nothing of theirs is infinite.
    """
    if temperature is None:
        if token_filter.entropy_temperature is None:
            return token_filter.temperature
        temperature = step_temperature(logits, token_filter)
    temperature = jax.lax.stop_gradient(temperature).astype(jnp.float32)
    return jnp.where(temperature > 0, temperature, 1.0)[..., None]


def kept_tokens(logits: Array, token_filter: TokenFilter) -> Array:
    """[..., V] tempered f32 logits -> [..., V] bool, True where truncation keeps a token.

    Tokens at EXCLUDED are never kept. Nothing is sorted: truncation keeps what is not below a
    threshold, which sums over V find (`_not_below_threshold`). So a sharded vocabulary stays where
    it is, and a row's threshold depends on this row alone.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    keep = logits > EXCLUDED / 2
    if 0 < token_filter.top_k < logits.shape[-1]:
        keep &= _not_below_threshold(logits, 1, token_filter.top_k)
    largest = jnp.max(logits, axis=-1, keepdims=True)
    if token_filter.top_p < 1:
        weights = jnp.where(keep, jnp.exp(logits - largest), 0.0)
        mass = token_filter.top_p * weights.sum(axis=-1, keepdims=True)
        keep &= _not_below_threshold(logits, weights, mass)
    if token_filter.min_p > 0:
        keep &= logits >= largest + jnp.log(token_filter.min_p)
    return keep


def kept_by_row(logits: Array, top_k: Array, top_p: Array, min_p: Array) -> Array:
    """`kept_tokens` for rows with filters of their own.

    Args:
        logits: [N, V] f32, tempered.
        top_k: [N] i32; 0 keeps all.
        top_p: [N] f32; 1 keeps all.
        min_p: [N] f32; 0 keeps all.

    Returns:
        [N, V] bool.
    """
    top_k, top_p, min_p = (x[:, None] for x in (top_k, top_p, min_p))
    keep = logits > EXCLUDED / 2
    counted = _not_below_threshold(logits, 1, jnp.maximum(top_k, 1))
    keep &= (top_k == 0) | counted
    largest = jnp.max(logits, axis=-1, keepdims=True)
    weights = jnp.where(keep, jnp.exp(logits - largest), 0.0)
    mass = top_p * weights.sum(axis=-1, keepdims=True)
    keep &= (top_p >= 1) | _not_below_threshold(logits, weights, mass)
    return keep & ((min_p == 0) | (logits >= largest + jnp.log(min_p)))


def _not_below_threshold(logits: Array, weights: Array | int, least: Array | int) -> Array:
    """The tokens that are not below the largest threshold at which they together weigh `least`.

    Bisection over the floats in their order, from EXCLUDED / 2 to the largest logit: 32 halvings
    (64 in float64) find the very logit of the last token that is needed. The weights are not
    negative and rounding is monotone, so their float sum never falls when the threshold does.

    The tokens are those that the loop has seen: outside of it a compiler may compute the logits
    again and round them otherwise, and the last token would fall below its own threshold.

    Args:
        logits: [..., V] float.
        weights: [..., V] >= 0, or one number for all tokens.
        least: [..., 1] or a number, in the dtype of the weights.

    Returns:
        [..., V] bool; where even all tokens do not weigh `least`, those above EXCLUDED / 2.
    """

    def halve(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, keep = state
        middle = (low & high) + ((low ^ high) >> 1)  # the mean, without overflow
        above = logits >= _float_at(middle, logits.dtype)
        enough = jnp.where(above, weights, 0).sum(axis=-1, keepdims=True) >= least
        bounds = jnp.where(enough, middle, low), jnp.where(enough, high, middle)
        return *bounds, jnp.where(enough, above, keep)

    largest = jnp.max(logits, axis=-1, keepdims=True)
    low, high = _place(jnp.full_like(largest, EXCLUDED / 2)), _place(largest) + 1
    state = low, high, logits >= EXCLUDED / 2
    return jax.lax.fori_loop(0, jnp.finfo(logits.dtype).bits, halve, state)[2]


def _place(x: Array) -> Array:
    """Floats -> integers of as many bits, in the same order."""
    return _flip(jax.lax.bitcast_convert_type(x, jnp.dtype(f"int{jnp.finfo(x.dtype).bits}")))


def _float_at(place: Array, dtype: jnp.dtype) -> Array:
    """The inverse of `_place`."""
    return jax.lax.bitcast_convert_type(_flip(place), dtype)


def _flip(bits: Array) -> Array:
    """Turns sign and magnitude into two's complement order, or back."""
    info = jnp.iinfo(bits.dtype)
    return bits ^ ((bits >> (info.bits - 1)) & info.max)


def log_distribution(
    logits: Array,
    token_filter: TokenFilter,
    taken: Array | None = None,
    temperature: Array | None = None,
) -> Array:
    """Normalised log-probabilities of the distribution sampled from.

    Args:
        logits: [..., V] raw logits of the model.
        token_filter: with temperature > 0, unless `temperature` is given.
        taken: [...] i32, tokens that were sampled earlier, perhaps under older parameters or
            another filter. They are always kept, else one that has since left the truncated set
            would have log-prob -inf. A forbidden token that was taken all the same keeps the logit
            of the model without a bias; what is kept besides it is decided without it.
        temperature: [...] f32, of each slot, instead of the filter's and of its entropy rule. Slots
            with 0 get finite values without a meaning (those of temperature 1).

    Returns:
        [..., V] f32; excluded tokens hold about `EXCLUDED`. Which tokens are kept is a constant for
        the gradient, and so is the temperature.

    Raises:
        ValueError: for a greedy filter, whose distribution has no density, or a biased or forbidden
            token outside the vocabulary.
    """
    if token_filter.greedy and temperature is None:
        raise ValueError("Greedy decoding (temperature 0) has no log-probabilities to train on.")
    logits = logits.astype(jnp.float32)
    divided_by = divisor(logits, token_filter, temperature)
    bias, keep = token_bias(token_filter, logits.shape[-1]), None
    if bias is not None:
        keep = jnp.broadcast_to(bias > EXCLUDED, logits.shape)
        logits += jnp.where(bias > EXCLUDED, bias, 0.0)
    logits = logits / divided_by
    if isinstance(divided_by, Array):  # a tiny temperature would turn EXCLUDED into -inf
        logits = jnp.maximum(logits, EXCLUDED)
    if token_filter.truncates:
        possible = logits if keep is None else jnp.where(keep, logits, EXCLUDED)
        keep = kept_tokens(jax.lax.stop_gradient(possible), token_filter)
    if keep is not None:
        if taken is not None:
            keep |= jax.nn.one_hot(taken, logits.shape[-1], dtype=bool)
        logits = jnp.where(keep, logits, EXCLUDED)
    return jax.nn.log_softmax(logits, axis=-1)


def entropy(log_probabilities: Array) -> Array:
    """[..., V] normalised log-probabilities -> [...] entropy in nats."""
    return -jnp.sum(jnp.exp(log_probabilities) * log_probabilities, axis=-1)


def take(log_probabilities: Array, tokens: Array) -> Array:
    """[..., V], [...] i32 -> [...] log-probability of each token."""
    return jnp.take_along_axis(log_probabilities, tokens[..., None], axis=-1)[..., 0]
