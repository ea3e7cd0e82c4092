"""Held-out evaluation: greedy accuracy, pass@1, pass@k and majority vote."""

from collections.abc import Callable, Sequence

import numpy as np

from rljax.config.decoding import PLAIN, Decoding
from rljax.models.network import Params
from rljax.rewards.answers import last_boxed, last_tagged
from rljax.rewards.pool import Scores
from rljax.sampling.engine import Engine
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.selection import count_correct, majority_vote, pass_at_k, vote_is_correct
from rljax.training.collect.rollouts import Samples, sample_texts, score_texts
from rljax.training.run.context import Context

Observer = Callable[[Samples, Scores, int], None]


class Evaluator:
    """Evaluates parameters on the held-out problems, every time with the same noise."""

    def __init__(
        self, context: Context, decoding: Decoding = PLAIN, observe: Observer | None = None
    ) -> None:
        """Builds the samplers; nothing is compiled yet.

        Args:
            context: its network is the one that is judged.
            decoding: of the stage that is judged (config/decoding.py).
            observe: gets the samples and scores of each batch, and how many of its problems count
                (the last batch is filled up).
        """
        self.context, self.decoding, self.observe = context, decoding, observe
        self.settings = context.config.evaluation
        self.key = purpose_key(context.config.seed, Purpose.HELDOUT_SAMPLES)
        self.failures = 0  # of the latest call
        self.greedy = self._engine(1, 0.0)
        self.samples = self.settings.samples_per_prompt
        self.sampled = (
            self._engine(self.samples, self.settings.temperature) if self.samples else None
        )

    def __call__(self, params: Params) -> dict[str, float]:
        """accuracy_greedy and completion_tokens; with k samples also pass@1, pass@k, majority@k.

        scoring_failures, the number of samples without a verdict, appears where there are any.
        """
        self.failures = 0
        weights = self.greedy.load(params)  # as good for the other engine
        correct, samples = self._correct(self.greedy, weights)
        lengths = np.concatenate([s.flat("mask").sum(axis=1) for s in samples])
        metrics = {
            "accuracy_greedy": float(correct.mean()),
            "completion_tokens": float(lengths[: len(correct)].mean()),
        }
        if self.sampled is not None:
            metrics |= self._sampled_metrics(weights)
        return metrics | ({"scoring_failures": float(self.failures)} if self.failures else {})

    def _sampled_metrics(self, weights: Params) -> dict[str, float]:
        """pass@1, pass@k and majority@k."""
        k = self.samples
        correct, samples = self._correct(self.sampled, weights)
        texts = [text for part in samples for text in part.texts]
        votes = [
            majority_is_correct(texts[b * k : (b + 1) * k], correct[b]) for b in range(len(correct))
        ]
        counts = count_correct(correct)
        passes = {f"pass@{draw}": float(pass_at_k(counts, k, draw).mean()) for draw in (1, k)}
        return passes | {f"majority@{k}": float(np.mean(votes))}

    def _engine(self, samples_per_prompt: int, temperature: float) -> Engine:
        return self.context.make_engine(
            samples_per_prompt=samples_per_prompt,
            max_new_tokens=self.settings.max_new_tokens,
            token_filter=self.decoding.token_filter.at_temperature(temperature),
            stop_strings=self.decoding.stop_strings,
        )

    def _correct(self, engine: Engine, weights: Params) -> tuple[np.ndarray, list[Samples]]:
        """Verdicts [problems, G] bool, and the samples of each batch."""
        problems, size = self.context.heldout_problems, self.settings.prompts_per_batch
        count = min(len(problems), self.context.config.data.heldout_size)
        verdicts, batches = [], []
        for start in range(0, count, size):
            # The last batch is filled up with the last problem, so that shapes stay the same.
            indices = [min(index, count - 1) for index in range(start, start + size)]
            records = [{**problems[index], "id": index} for index in indices]
            samples = sample_texts(self.context, engine, weights, records, key=self.key, step=0)
            scores = score_texts(self.context, samples)
            kept = min(size, count - start) * samples.samples_per_prompt
            self.failures += int(scores.failed[:kept].sum())
            if self.observe is not None:
                self.observe(samples, scores, min(size, count - start))
            verdicts.append(scores.correct.reshape(size, -1))
            batches.append(samples)
        return np.concatenate(verdicts)[:count], batches


def majority_is_correct(texts: Sequence[str], correct: Sequence[bool]) -> bool:
    """Whether the most frequent answer is correct; the earliest wins a tie.

    What votes is the tagged or boxed answer; completions without one do not vote, unless none has
    one: then the whole texts do. Verdicts of equal answers are equal.
    """
    answers = [answer_of(text) for text in texts]
    if not any(answer is not None for answer in answers):
        answers = [text.strip() or None for text in texts]
    return vote_is_correct(majority_vote(answers), answers, correct)


def answer_of(text: str) -> str | None:
    r"""The text that votes: the last tagged answer, else the last \boxed, else None."""
    tagged = last_tagged(text)
    return tagged if tagged is not None else last_boxed(text)
