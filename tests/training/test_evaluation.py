"""pass@k, majority vote, and the last batch that is only partly real."""

import dataclasses

import numpy as np
import pytest

from rljax.models.network import Network
from rljax.rewards.answers import answer_of
from rljax.rewards.pool import Scores
from rljax.training import evaluation
from rljax.training.evaluation import Evaluator, majority_is_correct, make_evaluators


@pytest.mark.parametrize(
    "answers, correct, expected",
    [
        (["1", "2", "2"], [True, False, False], False),
        (["1", "2", "2"], [False, True, True], True),
        (["1", "2"], [True, False], True),  # a tie: the earliest wins
        (["1", "2"], [False, True], False),
        ([None, None, "3"], [False, False, True], True),  # no answer, no vote
    ],
)
def test_majority(answers, correct, expected):
    texts = ["no answer" if a is None else f"so <answer> {a} </answer>" for a in answers]
    assert majority_is_correct(texts, correct) is expected


def test_whole_texts_vote_where_no_answer_is_tagged():
    assert majority_is_correct(["abc", " abc\n", "x"], [True, True, False])
    assert not majority_is_correct(["abc", "x", "x"], [True, False, False])
    assert not majority_is_correct(["", " "], [False, False])


def test_what_votes():
    assert answer_of("<answer>1</answer> and <answer> 2</answer>") == "2"
    assert answer_of(r"\boxed{3}") == r"\boxed{3}"
    assert answer_of("4") is None


def test_problems_that_fill_up_the_last_batch_do_not_count(pieces, monkeypatch):
    """5 held-out problems in batches of 4: the verdicts of the 3 copies are left out."""
    words = ["data.heldout_size=5", "evaluation.prompts_per_batch=4"]
    made = pieces("reinforce", *(f"--config.{word}" for word in words))
    seen = []

    def verdicts(context, samples):
        ids = [record["id"] for record in samples.records]
        seen.append(ids)
        group = samples.samples_per_prompt
        # Problem 4, the one that is repeated, is right; of the others only 1, in its first sample.
        right = [b == 4 or (b == 1 and g == 0) for b in ids for g in range(group)]
        parts = {"reward": np.array(right, np.float32)}
        failed = np.array([b == 0 for b in ids for _ in range(group)])
        there = np.ones(len(failed), bool)
        correct = np.array(right) & ~failed
        return Scores(parts["reward"], parts, correct, there, failed, ~there, "broken")

    monkeypatch.setattr(evaluation, "score_texts", verdicts)
    evaluate = Evaluator(made.context)
    metrics = evaluate(made.params)
    assert seen == [[0, 1, 2, 3], [4, 4, 4, 4]] * 2
    assert metrics["accuracy_greedy"] == pytest.approx(2 / 5)
    assert metrics["pass@1"] == pytest.approx((1 + 0.5) / 5)
    assert metrics["pass@2"] == pytest.approx(2 / 5)
    assert metrics["scoring_failures"] == 1 + 2  # problem 0, greedy and in both samples
    assert evaluate(made.params) == metrics  # the same noise every time


def test_what_has_no_verdict_is_in_no_mean(pieces, monkeypatch):
    """4 problems; 0 is never judged, 1 in one of two samples: pass@2 is of the other two."""
    made = pieces("reinforce", *(f"--config.{w}" for w in FOUR))

    def verdicts(context, samples):
        ids = [record["id"] for record in samples.records]
        group = samples.samples_per_prompt
        rows = [(b, g) for b in ids for g in range(group)]
        right = np.array([b in (1, 2) for b, _ in rows])
        judged = np.array([b > 1 or (b == 1 and g == 0) for b, g in rows])
        total = np.where(judged, right, np.nan).astype(np.float32)
        no = np.zeros(len(rows), bool)
        return Scores(total, {"r": total}, right & judged, judged, no, ~judged, None)

    monkeypatch.setattr(evaluation, "score_texts", verdicts)
    metrics = Evaluator(made.context)(made.params)
    assert metrics["accuracy_greedy"] == pytest.approx(2 / 3)
    assert metrics["pass@1"] == pytest.approx(2 / 3) and metrics["pass@2"] == 0.5
    assert metrics["majority@2"] == pytest.approx(2 / 3)
    assert metrics["left_out_samples"] == 1 + 3 and "scoring_failures" not in metrics


FOUR = ("data.heldout_size=4", "evaluation.prompts_per_batch=8")


def test_greedy_only(pieces):
    words = ["evaluation.samples_per_prompt=0", "evaluation.prompts_per_batch=8"]
    made = pieces("reinforce", *(f"--config.{word}" for word in words))
    assert set(Evaluator(made.context)(made.params)) == {"accuracy_greedy", "completion_tokens"}


def texts_of(made, monkeypatch):
    """The texts of all held-out completions, by the stage that is judged."""
    seen = []

    def verdicts(context, samples):
        seen.extend(samples.texts)
        right = np.zeros(len(samples.texts), np.float32)
        no = np.zeros(len(right), bool)
        return Scores(right, {"reward": right}, no, ~no, no, no, None)

    monkeypatch.setattr(evaluation, "score_texts", verdicts)
    texts = {}
    for stage, evaluate in make_evaluators(made.context).items():
        seen.clear()
        evaluate(made.params)
        texts[stage] = set(seen)
    return texts


X, Y = 120, 121  # the bytes of x and y
SURE_OF_X = (
    f"sampling.logit_bias=(({X}, 60.0), ({Y}, 30.0))",
    "sampling.stop_strings=('xx', 'yyy')",
)


def test_held_out_problems_are_decoded_as_the_stage_samples(pieces, monkeypatch):
    """Its biases make x of every token; its string ends a completion, greedy or sampled."""
    own = [f"--config.reinforce.{word}" for word in SURE_OF_X]
    assert texts_of(pieces("reinforce", *own), monkeypatch) == {"reinforce": {"xx"}}
    more = [*own, f"--config.reinforce.sampling.forbidden_tokens=({X},)"]
    assert texts_of(pieces("reinforce", *more), monkeypatch) == {"reinforce": {"yyy"}}


def test_the_evaluation_may_have_fields_of_its_own(pieces, monkeypatch):
    words = [f"--config.reinforce.{word}" for word in SURE_OF_X]
    words += ["--config.evaluation.stop_strings=()", f"--config.evaluation.forbidden_tokens=({X},)"]
    assert texts_of(pieces("reinforce", *words), monkeypatch) == {"reinforce": {"yyyyyy"}}


def test_a_stage_that_samples_nothing_is_judged_as_the_next_one(pieces, monkeypatch):
    words = [f"--config.grpo.{word}" for word in SURE_OF_X]
    texts = texts_of(pieces("grpo", *words), monkeypatch)
    assert texts == {"warmup": {"xx"}, "grpo": {"xx"}}


def test_a_network_that_sees_both_ways_is_evaluated_by_masked_diffusion(pieces):
    """Its engine fills 6 masked positions in 2 blocks; 7 stands for an open one."""
    made = pieces("reinforce")
    both_ways = dict(causal=False, mask_token=7)
    network = Network.create(dataclasses.replace(made.context.network.config, **both_ways))
    context = dataclasses.replace(made.context, network=network)
    for name, value in dict(block_tokens=3, steps=4).items():
        context.config.sampler.diffusion[name] = value
    evaluate = Evaluator(context)
    assert (evaluate.greedy.config.steps, evaluate.greedy.config.temperature) == (4, 0.0)
    assert evaluate.sampled.config.temperature == 1.0
    metrics = evaluate(made.params)
    assert set(metrics) == {
        *("accuracy_greedy", "completion_tokens", "pass@1", "pass@2", "majority@2")
    }
    assert 1 <= metrics["completion_tokens"] <= 6
    assert evaluate(made.params) == metrics
