"""Held-out likelihood of reference answers behind sampled thoughts."""

import jax
import numpy as np
import pytest

from rljax.config.decoding import decoding_of
from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.training.collect.reference_answers import answered_rows
from rljax.training.collect.rollouts import sample_texts
from rljax.training.evaluation import Evaluator
from rljax.training.update.logprobs import model_rows


def test_answers_are_scored_behind_each_thought(pieces):
    """The mean over samples stands inside the log; samples without the phrase do not count."""
    words = ("samples_per_prompt=0", "answer_samples=3", "max_answer_tokens=4")
    words += ("logit_bias=((259, 4.0),)",)  # so that a fresh policy writes the phrase now and then
    made = pieces("jepo", *(f"--config.evaluation.{word}" for word in words))
    evaluator = Evaluator(
        made.context, decoding_of(made.context.config.evaluation, (made.stage,), 0)
    )
    metrics, judged = evaluator(made.params), evaluator.answers
    assert 0 < metrics["answer_share"] <= 1
    weights = judged.engine.load(made.params)
    problems = made.context.heldout_problems
    count = min(len(problems), 8)
    records = [{**problems[i], "id": i} for i in range(count)]
    records += records[: 8 - count]
    samples = sample_texts(made.context, judged.engine, weights, records, key=judged.key, step=0)
    answered = answered_rows(made.context, judged.form, samples, slots=10, share_prompts=False)
    logprobs = np.asarray(
        judged.score(made.params, jax.tree.map(jax.numpy.asarray, model_rows(answered.rows)))
    )
    totals = np.where(answered.rows["answer_mask"], logprobs, 0).sum(-1).reshape(8, 3)
    found = [
        -np.log(np.mean(np.exp(totals[b][answered.format_ok[b]], dtype=np.float64)))
        for b in range(count)
        if answered.format_ok[b].any()
    ]
    assert metrics["answer_nll"] == pytest.approx(np.mean(found), rel=1e-4)
    assert metrics["answer_share"] == pytest.approx(len(found) / count)


def test_a_long_answer_is_refused_before_anything_is_sampled(pieces):
    words = ("answer_samples=2", "max_answer_tokens=2")
    made = pieces("jepo", *(f"--config.evaluation.{word}" for word in words))
    with pytest.raises(ValueError, match=r"has 3 tokens.*config.evaluation.max_answer_tokens"):
        Evaluator(made.context)


def test_the_form_of_answers_is_read_only_where_they_are_scored():
    config = complete(
        {"stages": ("s",), "s": {"method": "sft"}, "data": {"tasks": ({"name": "x"},)}}
    )
    config.evaluation.answer_end = ""
    with pytest.raises(ValueError, match=r"answer_end='' is never read with answer_samples=0"):
        validate(config)
