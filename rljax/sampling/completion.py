"""A completion as people read it: text, tokens, why it ended, and log-probabilities."""

import dataclasses
from typing import NamedTuple

import numpy as np

from rljax.sampling.options import SamplingOptions
from rljax.sampling.request import Rollouts, StopReason
from rljax.sampling.texts import Texts

# Stop reasons after which a completion can go on.
LIMITS = ("length", "paused")

# What a completion has for each of its tokens.
PER_TOKEN = (
    "logprobs",
    "model_logprobs",
    "tempered_logprobs",
    "entropy",
    "temperature",
    "top_logprobs",
    "top_tokens",
)


class Origin(NamedTuple):
    """What a completion was sampled from: enough to continue it, or to sample it again."""

    prompt: tuple[int, ...]
    options: SamplingOptions
    seed: int
    prompt_id: int
    sample_id: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Completion:
    """One sample of a prompt, T tokens long. Log-probabilities are natural logs.

    Attributes:
        text: without what ended it: without its stop token, and without its stop string and what
            comes after that in the last token.
        full_text: of all its tokens; a tokenizer's eos is no text.
        tokens: T ids, the stop token and those of the stop string included.
        stop_reason: length, stop_token, stop_string, constraint or paused (request.py).
        logprobs: [T] f32, of each token under the distribution really sampled from; 0 if greedy.
        model_logprobs: [T] f32, under the raw model.
        tempered_logprobs: [T] f32, under the raw model's logits / temperature.
        entropy: [T] f32, nats, of the distribution really sampled from.
        temperature: [T] f32.
        top_logprobs: [T, k] f32, of the raw model, descending; None where none were asked for.
        top_tokens: [T, k] i32, their tokens.
        origin: what `Generator.resume` needs.
    """

    text: str
    full_text: str
    tokens: tuple[int, ...]
    stop_reason: str
    logprobs: np.ndarray
    model_logprobs: np.ndarray
    tempered_logprobs: np.ndarray
    entropy: np.ndarray
    temperature: np.ndarray
    top_logprobs: np.ndarray | None
    top_tokens: np.ndarray | None
    origin: Origin

    @property
    def finished(self) -> bool:
        """Whether it ended by itself, not by a limit."""
        return self.stop_reason not in LIMITS


def complete(
    rollouts: Rollouts, sample: int, origin: Origin, written: Completion | None, texts: Texts
) -> Completion:
    """Sample g of a prompt as a completion.

    Args:
        rollouts: NumPy, [G, T], of one prompt.
        sample: g.
        origin: of the completion.
        written: its beginning, if these rollouts continue one.
        texts: of the tokenizer.
    """
    mask = rollouts.mask[sample]
    new = {name: getattr(rollouts, name) for name in PER_TOKEN}
    new = {name: None if x is None else x[sample][mask] for name, x in new.items()}
    tokens = tuple(rollouts.tokens[sample][mask].tolist())
    if written is not None:
        tokens = written.tokens + tokens
        new = {name: _joined(getattr(written, name), x) for name, x in new.items()}
    reason = StopReason(int(rollouts.stop_reason[sample]))
    text, full_text = texts.of(tokens, reason, origin.options.stop)
    return Completion(
        text=text,
        full_text=full_text,
        tokens=tokens,
        stop_reason=reason.name.lower(),
        origin=origin,
        **new,
    )


def _joined(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    return None if first is None else np.concatenate([first, second])
