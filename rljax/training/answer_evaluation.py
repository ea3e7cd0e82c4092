"""How likely a policy finds the held-out reference answers, with and without a chain of thought.

The proxy of arXiv:2503.19618 (app. B): for each problem n chains of thought are sampled, the
reference answer is scored behind each, and

    answer_nll = - log (1/n) sum_i pi(a* | x, c_i)

is an upper bound on -log p(a* | x) in expectation. A policy that writes the answer phrase at once
has an empty chain of thought, and its number is the likelihood without one.
"""

import numpy as np

from rljax.config.decoding import Decoding
from rljax.data.batches import equal_batches
from rljax.models.network import Params
from rljax.objectives.evidence import log_mean_exp
from rljax.parallel.host import to_host
from rljax.parallel.rules import put_rows
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.reference_answers import (
    AnswerForm,
    answered_rows,
    check_answers,
    single_token,
)
from rljax.training.collect.rollouts import sample_texts
from rljax.training.run.context import Context
from rljax.training.update.likelihood import autoregressive
from rljax.training.update.logprobs import model_rows


class AnswerEvaluator:
    """Scores the held-out answers behind n sampled chains of thought, always with one noise."""

    def __init__(self, context: Context, decoding: Decoding) -> None:
        """Builds sampler and scoring pass; nothing is compiled yet.

        Args:
            context: its network is the one that is judged.
            decoding: of the stage that is judged; chains are sampled at temperature 1.

        Raises:
            ValueError: for a network that does not score tokens one after the other.
        """
        self.context, self.settings = context, context.config.evaluation
        if not context.network.config.causal:
            raise ValueError(
                f"answer_samples={self.settings.answer_samples} scores answers token by token, "
                "which a network that sees both ways does not: set it to 0 "
                "(config.evaluation.answer_samples, config.model.causal)."
            )
        self.form = AnswerForm(
            self.settings.answer_phrase,
            self.settings.answer_end,
            self.settings.max_answer_tokens,
            "config.evaluation.max_answer_tokens",
        )
        check_answers(context, self.form, context.heldout_problems)
        self.key = purpose_key(context.config.seed, Purpose.HELDOUT_SAMPLES)
        self.engine = context.make_engine(
            samples_per_prompt=self.settings.answer_samples,
            max_new_tokens=self.settings.max_new_tokens,
            token_filter=decoding.token_filter.at_temperature(1.0),
            extra_stop_tokens=single_token(context.tokenizer, self.form.phrase),
        )
        self.score = context.jit_score(
            self.engine.config.token_filter.of_text,
            micro_batches=self.settings.answer_samples,
            likelihood=autoregressive,
        )

    def __call__(self, params: Params, weights: Params) -> dict[str, float]:
        """`answer_nll` of a mean problem in nats, and `answer_share`.

        Only chains with the answer phrase count. Problems without one, or with an empty answer, are
        left out; `answer_share` is the share of those that are in. Without any the number is NaN.

        Args:
            params: all parameters.
            weights: the sampler's copy of them.
        """
        problems, size = self.context.heldout_problems, self.settings.prompts_per_batch
        count = min(len(problems), self.context.config.data.heldout_size)
        found = [
            self._batch(params, weights, [{**problems[index], "id": index} for index in indices])
            for indices in equal_batches(count, size)
        ]
        nll = np.concatenate(found)[:count]
        scored = ~np.isnan(nll)
        mean = float(nll[scored].mean()) if scored.any() else float("nan")
        return {"answer_nll": mean, "answer_share": float(scored.mean())}

    def _batch(self, params: Params, weights: Params, records: list[dict]) -> np.ndarray:
        """[B] f64, minus the log of the mean likelihood; NaN for a problem that is left out."""
        samples = sample_texts(self.context, self.engine, weights, records, key=self.key, step=0)
        answered = answered_rows(
            self.context,
            self.form,
            samples,
            slots=self.settings.max_new_tokens + self.form.most_tokens,
            share_prompts=False,
        )
        placed = put_rows(model_rows(answered.rows), self.context.mesh)
        logprobs = to_host(self.score(params, placed))
        totals = np.where(answered.rows["answer_mask"], logprobs, 0.0).sum(axis=-1)
        valid = answered.format_ok & answered.present
        bound = np.asarray(log_mean_exp(totals.reshape(valid.shape), valid))
        return np.where(valid.any(axis=-1), -bound, np.nan)
