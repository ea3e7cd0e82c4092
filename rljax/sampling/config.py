"""What is static in a sampling program."""

import dataclasses

from rljax.sampling.choose import Penalties
from rljax.sampling.distribution import TokenFilter, token_bias

CACHE_DTYPES = ("", "int8")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Settings that select the program; what differs from row to row is in `Requests`.

    Attributes:
        samples_per_prompt: G.
        max_new_tokens: T, room for new tokens in one call.
        stop_tokens: end a row.
        pad_token: fills what comes after the end.
        token_filter: temperature, bias and truncation.
        penalties: of repeated tokens.
        slots: rows decoded at a time on all devices together; further samples wait in a queue and
            take the place of those that end. 0: all at once.
        refill_every: steps between two looks at the queue.
        shrink: the rows that are left at the end are moved together into W slots divided by each
            of these numbers in turn, so that a step costs less. The program holds the decode step
            once for each, which takes its time to compile; (): never. Fewer than 8 slots of a
            shard are not worth it.
        top_logprobs: likeliest tokens of the raw model that are returned for every token.
        prefill_tokens: prompt tokens that each shard of rows computes at a time, about.
        cache_dtype: of keys and values: "" is the compute dtype, or "int8".
        lockstep: every call decodes T tokens, whether rows have ended or not: for programs that
            are vmapped over parameters, where a loop that ends earlier for some of them has to
            copy its caches in every step. Without `slots` and `shrink`.
    """

    samples_per_prompt: int
    max_new_tokens: int
    stop_tokens: tuple[int, ...]
    pad_token: int
    token_filter: TokenFilter = TokenFilter()
    penalties: Penalties = Penalties()
    slots: int = 0
    refill_every: int = 4
    shrink: tuple[int, ...] = (2, 8)
    top_logprobs: int = 0
    prefill_tokens: int = 1024
    cache_dtype: str = ""
    lockstep: bool = False

    def __post_init__(self) -> None:
        at_least = {
            "samples_per_prompt": (1, "config.<stage>.batch.samples_per_prompt"),
            "max_new_tokens": (1, "config.<stage>.sampling.max_new_tokens"),
            "slots": (0, "config.sampler.slots"),
            "refill_every": (1, "config.sampler.refill_every"),
            "prefill_tokens": (1, "config.sampler.prefill_tokens"),
            "top_logprobs": (0, "top_logprobs"),
        }
        for field, (least, where) in at_least.items():
            if getattr(self, field) < least:
                raise ValueError(
                    f"{field} must be >= {least}, got {getattr(self, field)} ({where})."
                )
        if not self.stop_tokens:
            raise ValueError("At least one stop token is needed (the tokenizer's eos).")
        if list(self.shrink) != sorted(set(self.shrink)) or any(d < 2 for d in self.shrink):
            raise ValueError(
                f"shrink must be ascending divisors >= 2, or (), got {self.shrink} "
                "(config.sampler.shrink)."
            )
        if self.lockstep and (self.slots or self.shrink):
            raise ValueError(
                f"lockstep decodes all rows to the end: slots={self.slots} and shrink="
                f"{self.shrink} must be 0 and () (lockstep)."
            )
        if self.cache_dtype not in CACHE_DTYPES:
            raise ValueError(
                f"Unknown cache_dtype {self.cache_dtype!r}; known: '' (the compute dtype), 'int8' "
                "(config.sampler.cache_dtype)."
            )

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises ValueError where biased tokens or top_logprobs do not fit a vocabulary."""
        token_bias(self.token_filter, vocab_size)
        if self.top_logprobs > vocab_size:
            raise ValueError(
                f"top_logprobs={self.top_logprobs} is more than the vocabulary of {vocab_size}."
            )
