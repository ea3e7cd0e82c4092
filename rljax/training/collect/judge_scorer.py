"""What a language model answers that is asked about samples: a score, or which answer is better.

    judge   the reward of a sample
    score   the mean of the scores from lowest to highest, as likely as the model is to write each
            of them next, renormalised over them: sum of x p(x)      (arXiv:2603.12246)
    pair    in how many of both orders the model's next token prefers the sample to the reference
            answer: 1, 1/2 or 0; a judge that goes by the place alone says 1/2

The questions are those of judges at an address (rewards/judges/), and so are the answers of one
that writes a single token. The model reads them by the run's chat template, where there is one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rljax.data.batches import equal_batches
from rljax.data.encode import pad_prompts
from rljax.parallel.host import to_host
from rljax.parallel.rules import batch_sharding, put_rows
from rljax.rewards.judges.questions import (
    QUESTIONS,
    filled,
    pair_values,
    score_values,
)
from rljax.rewards.references import gold_text
from rljax.sampling.engine import bucket
from rljax.training.collect.rollouts import Samples
from rljax.training.run.context import Context
from rljax.training.run.models import Model
from rljax.training.update.rows import Rows, completion_rows, take_rows
from rljax.training.update.verdicts import judge_ids, make_verdicts


class JudgeScorer:
    """One frozen language model that judges."""

    def __init__(
        self,
        context: Context,
        model: Model,
        fields: Mapping[str, Any],
        rows_per_pass: int,
        where: str,
    ) -> None:
        """Makes `program`, (params, rows) -> [N, K], log-probabilities of the K answers.

        Args:
            context: of the stage.
            model: with its parameters.
            fields: of the stage's role.
            rows_per_pass: questions that are read at once.
            where: path of the role in the config, for errors.
        """
        self.context, self.network, self.params = context, model.network, model.params
        self.fields, self.rows_per_pass, self.where = fields, rows_per_pass, where
        self.question = fields["question"] or QUESTIONS[fields["judge"]]
        sharding = batch_sharding(context.mesh)
        self.program = jax.jit(
            make_verdicts(model.network, judge_ids(fields, context.tokenizer, where)),
            in_shardings=(model.shardings(context.mesh), sharding),
            out_shardings=sharding,
        )

    def of_samples(self, samples: Samples) -> np.ndarray:
        """[N] f32, the rewards of samples; of an episode the last reply is judged."""
        prompts = samples.repeated(samples.prompt_texts)
        fields = self.fields
        if fields["judge"] == "score":
            values = [
                score_values(prompt, text, fields["rubric"], fields["lowest"], fields["highest"])
                for prompt, text in zip(prompts, samples.texts, strict=True)
            ]
            return expected_scores(self._said(values), fields["lowest"])
        others = map(gold_text, samples.repeated(self.context.references(samples.records)))
        values = []
        for prompt, own, other in zip(prompts, samples.texts, others, strict=True):
            for first, second in ((own, other), (other, own)):
                values.append(pair_values(prompt, first, second, fields["rubric"]))
        return preferences(self._said(values))

    def _said(self, values: Sequence[dict[str, str]]) -> np.ndarray:
        """[M, K] f32, the log-probabilities of the answers to M questions."""
        asked = [self._asked(filled(self.question, each)) for each in values]
        longest = max(map(len, asked))
        self.network.config.check_positions(
            longest, "What the judge reads of a sample", f"name another model ({self.where})"
        )
        rows = self.rows(asked, bucket(longest))
        passes = [
            self.program(self.params, put_rows(take_rows(rows, np.array(index)), self.context.mesh))
            for index in equal_batches(len(asked), self.rows_per_pass)
        ]
        return np.concatenate(to_host(passes))[: len(asked)]

    def _asked(self, text: str) -> list[int]:
        text_format = self.context.text_format
        chat = text_format.template is not None
        value: Any = [{"role": "user", "content": text}] if chat else text
        return text_format.prompt(value, where="a judge's question", field=self.where).tokens

    def rows(self, asked: Sequence[list[int]], slots: int) -> Rows:
        """Questions as rows of so many slots, whose completion has no token yet."""
        pad_id = self.context.tokenizer.pad_id
        prompts = pad_prompts(asked, pad_id, max_prompt_tokens=slots)
        nothing = np.full((len(asked), 1), pad_id, np.int32)
        return completion_rows(*prompts, nothing, np.zeros(nothing.shape, bool))


def expected_scores(said: np.ndarray, lowest: int) -> np.ndarray:
    """[N, K] log-probabilities of the scores lowest .. lowest + K - 1 -> [N] f32, their means."""
    weights = np.exp(said.astype(np.float64) - said.max(axis=1, keepdims=True))
    scores = lowest + np.arange(said.shape[1])
    return (weights @ scores / weights.sum(axis=1)).astype(np.float32)


def preferences(said: np.ndarray) -> np.ndarray:
    """[2 * N, 2] log-probabilities of A and B, the sample being A, then B -> [N] f32.

    The same probability of both is half a preference.
    """
    prefers_first = (1 + np.sign(said[:, 0] - said[:, 1])) / 2
    first, second = prefers_first.reshape(-1, 2).T
    return ((first + 1 - second) / 2).astype(np.float32)
