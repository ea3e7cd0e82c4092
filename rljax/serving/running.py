"""A request at work, the rows of it that run, and what is written down of each token."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rljax.sampling.request import StopReason
from rljax.serving.asked import Ask, Event, Sample, StopFinder, top_pairs
from rljax.serving.program import Chunk


class Job:
    """A request at work: its prompts, its samples, and who hears of them."""

    def __init__(
        self, asks: Sequence[Ask], deliver: Callable[[Event], None], *, streams: bool
    ) -> None:
        self.asks, self.deliver, self.streams = tuple(asks), deliver, streams
        self.cancelled = False


class Running(NamedTuple):
    """A row in a slot."""

    job: Job
    sample: Sample
    finder: StopFinder

    @property
    def ask(self) -> Ask:
        """What was asked of its prompt."""
        return self.job.asks[self.sample.prompt]


def append(row: Running, chunk: Chunk, slot: int, step: int) -> None:
    """One token more of a row, and why it ends with it, if it does."""
    sample, ask = row.sample, row.ask
    token = int(chunk.tokens[slot, step])
    sample.tokens.append(token)
    sample.logprobs.append(float(chunk.logprobs[slot, step]))
    sample.model.logprobs.append(float(chunk.model_logprobs[slot, step]))
    sample.tempered.append(float(chunk.tempered_logprobs[slot, step]))
    sample.entropy.append(float(chunk.entropy[slot, step]))
    if ask.tops:
        tops = chunk.top_tokens[slot, step], chunk.top_logprobs[slot, step]
        sample.model.tops.append(top_pairs(*tops, ask.tops))
    written = ask.continued + len(sample.tokens)
    found = row.finder.found(token) and written >= ask.least
    if token in ask.ends:
        sample.reason = StopReason.STOP_TOKEN
    elif found:
        sample.reason = StopReason.STOP_STRING
    elif written >= ask.most:
        sample.reason = StopReason.LENGTH


def not_finite(sample: Sample) -> str:
    """What is said of a sample whose last log-probability is no number."""
    return (
        f"Token {len(sample.tokens)} of sample {sample.number} of prompt {sample.prompt} has a "
        "log-probability that is no finite number: parameters or a dtype are wrong."
    )
