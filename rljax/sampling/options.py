"""The settings of one request, by the names that people know from vLLM and transformers."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real

from rljax.sampling.choose import Penalties
from rljax.sampling.distribution import EntropyTemperature, TokenFilter

# What the settings of a training run are called: errors use the first one that matches.
NAMES = {
    r"config\.<stage>\.sampling\.stop_strings": "SamplingOptions.stop",
    r"config\.<stage>\.sampling": "SamplingOptions",
    r"config\.<stage>\.batch\.samples_per_prompt": "SamplingOptions.n",
    r"config\.sampler\.cache(_dtype)?": "Generator.cache",
    r"config\.sampler": "Generator",
    r"\(penalties\.": "(SamplingOptions.penalties.",
    r"\(top_logprobs\)": "(SamplingOptions.top_logprobs)",
}

# Ids of the noise, and lengths, are 32-bit integers on the device.
LARGEST = 2**31 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How a prompt is completed. Lists and dicts are kept as tuples.

    Attributes:
        n: completions of the prompt.
        max_new_tokens: tokens of a completion at most.
        min_new_tokens: before so many tokens no stop token can come and no stop string counts.
        temperature: 0 is greedy; with `entropy_temperature` the highest one.
        top_k, top_p, min_p: truncation (distribution.py); 0, 1 and 0 keep all tokens.
        logit_bias: {token: what is added to its logit}, or pairs.
        forbidden_tokens: never sampled.
        entropy_temperature: makes the temperature of a step follow from the model's entropy.
        stop: texts that end a completion, wherever they lie in its tokens; one text, or several.
        stop_tokens: that end a completion, besides the generator's.
        penalties: of repeated tokens.
        top_logprobs: k likeliest tokens of the model that are returned for every token.
        seed: of the noise, instead of the seed of the call.
        first_sample: number of the first completion. Noise belongs to (seed, id of the prompt,
            number of the completion): n=2 with first_sample=2 gives the last two of n=4.
    """

    n: int = 1
    max_new_tokens: int = 256
    min_new_tokens: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    logit_bias: Mapping[int, float] | Sequence[tuple[int, float]] = ()
    forbidden_tokens: Sequence[int] = ()
    entropy_temperature: EntropyTemperature | None = None
    stop: str | Sequence[str] = ()
    stop_tokens: Sequence[int] = ()
    penalties: Penalties = Penalties()
    top_logprobs: int = 0
    seed: int | None = None
    first_sample: int = 0

    def __post_init__(self) -> None:
        bias = self.logit_bias
        plain = {
            "logit_bias": tuple(bias.items()) if isinstance(bias, Mapping) else tuple(bias),
            "forbidden_tokens": tuple(self.forbidden_tokens),
            "stop": (self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
            "stop_tokens": tuple(self.stop_tokens),
        }
        for field, value in plain.items():
            object.__setattr__(self, field, value)
        _check_numbers(self)
        _check_ids(self)
        with own_names():
            self.token_filter  # noqa: B018 (its checks)

    @property
    def token_filter(self) -> TokenFilter:
        """The same as the sampler and the trainer know it."""
        return TokenFilter(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            logit_bias=self.logit_bias,
            forbidden_tokens=self.forbidden_tokens,
            entropy_temperature=self.entropy_temperature,
        )

    def static(self, samples: int) -> "SamplingOptions":
        """The options that are compiled into a program for `samples` completions of each prompt.

        Everything else is given with each row, and has its default here.
        """
        follows = self.entropy_temperature is not None
        return dataclasses.replace(
            self,
            n=samples,
            max_new_tokens=1,
            min_new_tokens=0,
            temperature=self.temperature if follows else 1.0,
            seed=None,
            first_sample=0,
        )


def _check_numbers(options: SamplingOptions) -> None:
    least = {
        "n": 1,
        "max_new_tokens": 1,
        "min_new_tokens": 0,
        "top_k": 0,
        "top_logprobs": 0,
        "first_sample": 0,
    }
    for field, lowest in least.items():
        check_integer(getattr(options, field), lowest, f"SamplingOptions.{field}")
    if options.seed is not None:
        check_integer(options.seed, 0, "SamplingOptions.seed")
    check_integer(options.first_sample + options.n - 1, 0, "SamplingOptions.first_sample")
    if options.min_new_tokens > options.max_new_tokens:
        raise ValueError(
            f"min_new_tokens={options.min_new_tokens} is more than "
            f"max_new_tokens={options.max_new_tokens} (SamplingOptions.min_new_tokens)."
        )
    if not math.isfinite(options.temperature):
        raise ValueError(
            f"temperature must be finite and >= 0, got {options.temperature} "
            "(SamplingOptions.temperature)."
        )


def _check_ids(options: SamplingOptions) -> None:
    """Whether they are numbers; the vocabulary is not known here."""
    for field in ("forbidden_tokens", "stop_tokens"):
        for token in getattr(options, field):
            check_integer(token, 0, f"SamplingOptions.{field}")
    for token, bias in options.logit_bias:
        check_integer(token, 0, "SamplingOptions.logit_bias")
        if not isinstance(bias, Real):
            raise ValueError(
                f"The bias of token {token} must be a number, got {bias!r} "
                "(SamplingOptions.logit_bias)."
            )


def check_integer(value: object, lowest: int, field: str) -> None:
    """Raises ValueError unless the value is a whole number from `lowest` to 2**31 - 1."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not lowest <= value <= LARGEST:
        name = field.rpartition(".")[2]
        raise ValueError(
            f"{name} must be a whole number in {lowest}..{LARGEST}, got {value!r} ({field})."
        )


@contextlib.contextmanager
def own_names() -> Iterator[None]:
    """Inside, errors name fields of `SamplingOptions` and `Generator`, not those of a config."""
    try:
        yield
    except ValueError as error:
        message = str(error)
        for pattern, name in NAMES.items():
            message = re.sub(pattern, name, message)
        raise ValueError(message) from error
