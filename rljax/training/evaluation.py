"""Held-out evaluation: greedy accuracy, pass@1, pass@k, majority vote, likelihood of answers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rljax.config.decoding import PLAIN, Decoding, decoding_of
from rljax.data.batches import equal_batches
from rljax.models.network import Network, Params
from rljax.rewards.answers import voting_answers
from rljax.rewards.pool import Scores
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.selection import count_correct, majority_vote, pass_at_k, vote_is_correct
from rljax.training.answer_evaluation import AnswerEvaluator
from rljax.training.collect.rollouts import Samples, measures_of, score_texts
from rljax.training.collect.samplers import ProblemSampler, drawn_samples, make_sampler
from rljax.training.run.context import Context, Record

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
        self.episodes: list[dict[str, Any]] = []
        self.greedy = self._sampler(1, 0.0)
        self.samples = self.settings.samples_per_prompt
        self.sampled = (
            self._sampler(self.samples, self.settings.temperature) if self.samples else None
        )
        scored = self.settings.answer_samples
        self.answers = AnswerEvaluator(context, decoding) if scored else None

    def __call__(self, params: Params) -> dict[str, float]:
        """accuracy_greedy and completion_tokens; with k samples also pass@1, pass@k, majority@k;
        with answer_samples the likelihood of the reference answers (answer_evaluation.py); what an
        environment of several players measures.

        All are over verdicts: a sample that no reward applies to is left out, and so is a problem
        with fewer verdicts than a draw of pass@k. `scoring_failures` and `left_out_samples` appear
        where there are any; an accuracy without a verdict is NaN.
        """
        self.failures = self.left_out = 0
        self.episodes = []
        weights = self.greedy.load(params)  # as good for the other engine
        correct, judged, samples = self._verdicts(self.greedy, weights)
        lengths = np.concatenate([s.flat("mask").sum(axis=1) for s in samples])
        metrics = {
            "accuracy_greedy": _mean(correct[judged]),
            "completion_tokens": float(lengths[: correct.size].mean()),
        }
        metrics |= measures_of(self.episodes)
        if self.sampled is not None:
            metrics |= self._sampled_metrics(weights)
        if self.answers is not None:
            metrics |= self.answers(params, weights)
        counts = {"scoring_failures": self.failures, "left_out_samples": self.left_out}
        return metrics | {name: float(count) for name, count in counts.items() if count}

    def _sampled_metrics(self, weights: Params) -> dict[str, float]:
        """pass@1, pass@k and majority@k."""
        k = self.samples
        correct, judged, samples = self._verdicts(self.sampled, weights)
        texts = np.array([text for part in samples for text in part.texts], object)
        texts = texts[: correct.size].reshape(correct.shape)
        rows = list(zip(texts, correct, judged, strict=True))
        votes = [majority_is_correct(t[j], c[j]) for t, c, j in rows if j.any()]
        passes = {
            f"pass@{draw}": _mean(
                [
                    pass_at_k(count_correct(c[j]), j.sum(), draw)
                    for _, c, j in rows
                    if j.sum() >= draw
                ]
            )
            for draw in (1, k)
        }
        return passes | {f"majority@{k}": _mean(votes)}

    def _sampler(self, samples_per_prompt: int, temperature: float) -> ProblemSampler:
        return make_sampler(
            self.context,
            samples_per_prompt=samples_per_prompt,
            max_new_tokens=self.settings.max_new_tokens,
            token_filter=self.decoding.token_filter.at_temperature(temperature),
            stop_strings=self.decoding.stop_strings,
        )

    def _drawn(self, sampler: ProblemSampler, weights: Params, records: list[Record]) -> Samples:
        return drawn_samples(self.context, sampler, weights, records, key=self.key, step=0)

    def _verdicts(
        self, sampler: ProblemSampler, weights: Params
    ) -> tuple[np.ndarray, np.ndarray, list[Samples]]:
        """Which samples are right and which were judged, [problems, G] bool; and each batch's."""
        problems, size = self.context.heldout_problems, self.settings.prompts_per_batch
        count = min(len(problems), self.context.config.data.heldout_size)
        verdicts, judged, batches = [], [], []
        for indices in equal_batches(count, size):
            real = min(size, count - indices[0])
            records = [{**problems[index], "id": index} for index in indices]
            samples = self._drawn(sampler, weights, records)
            scores = score_texts(self.context, samples)
            kept = real * len(samples.texts) // size  # of several players one each
            self.failures += int(scores.failed[:kept].sum())
            if self.observe is not None:
                self.observe(samples, scores, real)
            self.left_out += int((~scores.judged[:kept]).sum())
            verdicts.append(scores.correct.reshape(size, -1))
            judged.append(scores.judged.reshape(size, -1))
            self.episodes += (samples.episodes or ())[:kept]
            batches.append(samples)
        return np.concatenate(verdicts)[:count], np.concatenate(judged)[:count], batches


def _mean(values: Sequence[float]) -> float:
    """Their mean; NaN of none, without a warning."""
    return float(np.mean(values)) if len(values) else float("nan")


def majority_is_correct(texts: Sequence[str], correct: Sequence[bool]) -> bool:
    """Whether the most frequent answer (`voting_answers`) is correct; the earliest wins a tie.

    Verdicts of equal answers are equal.
    """
    answers = voting_answers(texts)
    return vote_is_correct(majority_vote(answers), answers, correct)


def make_evaluators(context: Context) -> dict[str, Evaluator]:
    """What judges the policies of stages on the held-out problems, by the stage's name.

    Stages with one network that are decoded alike share the programs.

    Raises:
        ValueError: for settings that the sampler refuses.
    """
    made: dict[tuple[Network, Decoding], Evaluator] = {}
    found = {}
    for index, stage in enumerate(context.stages):
        network = context.of(stage.name).network
        if network.config.head != "language_model":
            continue
        decoding = decoding_of(context.config.evaluation, context.stages, index)
        if (network, decoding) not in made:
            made[network, decoding] = Evaluator(context.with_network(network), decoding)
        found[stage.name] = made[network, decoding]
    return found
