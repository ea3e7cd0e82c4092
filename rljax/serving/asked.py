"""What a server is asked for, and what it answers, as tokens: the words of the worker's thread."""

import dataclasses
from typing import NamedTuple

import numpy as np

from rljax.sampling.request import StopReason
from rljax.serving.program import Row, row_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ask:
    """One prompt and the samples that are wanted of it.

    Attributes:
        prompt: ids, at least one.
        n: samples; 0 with `scored` alone.
        most: tokens of a sample, `continued` ones included.
        least: tokens before which nothing ends a sample.
        ends: tokens that end it.
        stop: texts that end it.
        temperature, top_k, top_p, min_p: as in `SamplingOptions`; at 0 the likeliest token is
            taken, whatever the truncation.
        presence, frequency: penalties, see `Penalties`.
        logit_bias: pairs (token, what is added to its logit).
        seed, prompt_id: address of the noise, as `Generator.generate` has it.
        stream, step: instead of the seed: data of a stream's key (sampling/keys.py), and the step.
        first_sample: number of the first of the n samples, in the address of its noise.
        continued: trailing tokens of the prompt that are completion: the noise goes on after them.
        tops: alternatives that are wanted for each token; None: no log-probabilities at all.
        scored: whether the log-probabilities of the prompt are wanted.
    """

    prompt: tuple[int, ...]
    n: int
    most: int
    least: int = 0
    ends: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence: float = 0.0
    frequency: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0
    prompt_id: int = 0
    stream: tuple[int, ...] | None = None
    step: int = 0
    first_sample: int = 0
    continued: int = 0
    tops: int | None = None
    scored: bool = False

    def row(self, sample: int) -> Row:
        """The arrays of one of its samples."""
        return row_of(
            most=self.most,
            seed=self.seed,
            stream=self.stream,
            step=self.step,
            prompt_id=self.prompt_id,
            sample_id=self.first_sample + sample,
            continued=self.continued,
            least=self.least,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            presence=self.presence,
            frequency=self.frequency,
            tops=bool(self.tops),
            ends=self.ends,
            logit_bias=self.logit_bias,
        )


class TokenScores(NamedTuple):
    """Log-probabilities of tokens under the raw model, with their alternatives."""

    logprobs: list[float]
    tops: list[list[tuple[int, float]]]  # of each token: (id, log-probability), descending


@dataclasses.dataclass(kw_only=True, eq=False)
class Sample:
    """What has been written of one sample; only the worker's thread changes it.

    Attributes:
        prompt: place of its prompt in the request.
        number: of the sample.
        version: of the weights that have written all of it.
        tokens: ids, the stop token included.
        logprobs: of each token under the distribution really sampled from; 0 if greedy.
        model: under the raw model.
        tempered: under the raw model's logits / temperature.
        entropy: of the distribution that each token was drawn from, in nats.
        reason: why it ended; None while it runs.
    """

    prompt: int
    number: int
    version: int = 0
    tokens: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    model: TokenScores = dataclasses.field(default_factory=lambda: TokenScores([], []))
    tempered: list[float] = dataclasses.field(default_factory=list)
    entropy: list[float] = dataclasses.field(default_factory=list)
    reason: StopReason | None = None


class Written(NamedTuple):
    """A sample has grown to `count` tokens, or ended."""

    sample: Sample
    count: int
    reason: StopReason | None


class Scored(NamedTuple):
    """The prompt of this place has been scored; its first token has 0 and no alternatives."""

    prompt: int
    scores: TokenScores
    version: int


class Failed(NamedTuple):
    """The request cannot be answered; nothing more comes."""

    error: Exception


Event = Written | Scored | Failed


class StopFinder:
    """Finds stop strings in the bytes of a sample, wherever they lie in its tokens.

    It sees what the automaton of sampling/stop_strings.py sees: a string that is found before the
    wanted length has no part in another one.
    """

    def __init__(self, stop: tuple[str, ...], spelling: list[bytes]) -> None:
        self._words = [text.encode("utf-8") for text in stop]
        self._reach = max((len(word) for word in self._words), default=1) - 1
        self._spelling, self._seen = spelling, b""

    def found(self, token: int) -> bool:
        """Whether a stop string ends with this token; they are given in order."""
        if not self._words:
            return False
        seen = self._seen + self._spelling[token]
        found = any(word in seen for word in self._words)
        self._seen = b"" if found else seen[max(len(seen) - self._reach, 0) :]
        return found


def top_pairs(tokens: np.ndarray, logprobs: np.ndarray, count: int) -> list[tuple[int, float]]:
    """[k] ids and log-probabilities, descending -> the first `count` pairs."""
    return list(zip(tokens[:count].tolist(), logprobs[:count].tolist(), strict=True))
