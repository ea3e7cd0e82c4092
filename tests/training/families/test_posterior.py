"""Posterior stages: chains that go on from step to step, and what their rows weigh."""

import numpy as np
import pytest

from rljax.training.collect.chains import Chains, distinct_prompts
from rljax.training.collect.prompts import Prompts, ShuffledPrompts
from rljax.training.families.posterior import Posterior

WITHOUT_GUIDE = ("objective.guide=none", "data.max_context_tokens=None")


@pytest.fixture
def trice(pieces):
    """trice(*overrides) -> made pieces and the family."""

    def make(*words: str):
        made = pieces("trice", *(f"--config.trice.{word}" for word in words))
        return made, Posterior(made.context, made.stage, None, 12)

    return make


def judged(family, verdict):
    """The family, with verdicts given by hand: verdict(call, samples) -> [N] bool."""
    original, calls = family.source.reward.score, []

    def score(samples):
        scores = original(samples)
        right = np.asarray(verdict(len(calls), samples), bool)
        calls.append(samples)
        there = np.ones(len(right), bool)
        return scores._replace(correct=right, judged=there, failed=~there, left_out=~there)

    family.source.reward.score = score
    return calls


def test_chains_go_on_where_their_problem_is_visited_again(trice, monkeypatch):
    """45 problems, 8 of them three times over: right, wrong, wrong."""
    monkeypatch.setattr(
        "rljax.training.collect.chains.is_right", lambda samples, scores: scores.correct
    )
    made, family = trice(*WITHOUT_GUIDE, "batch.share_prompts=False")
    ids = np.arange(8)
    right = [[1, 1, 0, 0, 1, 0, 1, 0], [0, 1, 1, 0, 0, 0, 0, 0], [0] * 8]
    judged(family, lambda call, samples: right[call])
    records = [{**made.context.train_problems[i], "id": i} for i in ids]

    class Same:
        def first_state(self):
            return {}

        def take(self, state, step, count):
            return Prompts(records[:count], np.zeros(count, int)), state

        def observe(self, state, samples, scores):
            return state

        def metrics(self, state):
            return {}

    family.source.prompts = Same()
    state, policy = family.source.first_state(), family.policy(made.state, 1)
    found = []
    for step in (1, 2, 3):
        experience, state = family.source.collect(policy, state, step)
        found.append(experience)
    chains = Chains(**state["chains"])
    assert chains.right[:8].tolist() == [True, True, True, False, True, False, True, False]
    assert chains.age[:8].tolist() == [2, 1, 1, 3, 2, 3, 2, 3]
    assert chains.begun.sum() == 8
    # Accepted in the first step and kept, or in the second: the tokens are those of that sample.
    for place, step in [(0, 0), (1, 1), (2, 1), (4, 0), (6, 0)]:
        samples = found[step].samples
        written = samples.flat("tokens")[place][samples.flat("mask")[place]]
        np.testing.assert_array_equal(chains.tokens[place][chains.mask[place]], written)
    assert chains.length[3] == 0  # never right: nothing is kept
    # The last step: 5 right chains, no proposal accepted, so no share is taken off.
    _, batches = family.batches(made.state, found[2], 3)
    (batch,) = batches.batches
    expected = np.where(chains.right[:8, None], [[0.2, 0.0]], 0.0)
    np.testing.assert_allclose(batch["weights"], expected, atol=1e-7)
    assert batch["tokens"].shape[:2] == (8, 2)
    # The second step: of the right chains 0 1 2 4 6, those of 1 and 2 were accepted.
    _, batches = family.batches(made.state, found[1], 2)
    (batch,) = batches.batches
    share = np.array([2, 1, 1, 0, 2, 0, 2, 0]) / 4 / 5
    accepted = np.isin(ids, [1, 2])  # both of their weights are the new state's
    np.testing.assert_allclose(batch["weights"][:, 1], np.where(accepted, 0, -share), atol=1e-7)
    state = chains.right[:8] / 5 - np.where(accepted, share, 0)
    np.testing.assert_allclose(batch["weights"][:, 0], state, atol=1e-7)


def test_a_step_whose_weights_cancel_makes_no_update(trice, monkeypatch):
    """Every proposal is accepted, so leave-one-out takes all of each off."""
    monkeypatch.setattr(
        "rljax.training.collect.chains.is_right", lambda samples, scores: scores.correct
    )
    made, family = trice(*WITHOUT_GUIDE)
    judged(family, lambda call, samples: np.ones(8))
    experience, _ = family.source.collect(
        family.policy(made.state, 1), family.source.first_state(), 1
    )
    assert experience.arrays["memory_right"].all()
    _, batches = family.batches(made.state, experience, 1)
    assert list(batches.batches) == [] and batches.metrics["updates_without_right"] == 1.0


def test_a_step_without_a_right_chain_makes_no_update(trice):
    made, family = trice(*WITHOUT_GUIDE)
    judged(family, lambda call, samples: np.zeros(8))
    experience, _ = family.source.collect(
        family.policy(made.state, 1), family.source.first_state(), 1
    )
    _, batches = family.batches(made.state, experience, 1)
    assert list(batches.batches) == [] and batches.metrics["updates_without_right"] == 1.0


def test_a_chain_begins_with_a_sample_that_was_shown_the_answer(trice, monkeypatch):
    """The first call is of the plain prompts, the second of the hinted ones; later visits: one."""
    monkeypatch.setattr(
        "rljax.training.collect.chains.is_right", lambda samples, scores: scores.correct
    )
    made, family = trice("batch.share_prompts=False")
    calls = judged(family, lambda call, samples: np.full(8, call == 1))
    policy, first = family.policy(made.state, 1), family.source.first_state()
    experience, state = family.source.collect(policy, first, 1)
    assert len(calls) == 2
    plain, hinted = calls
    assert hinted.records == plain.records and hinted.prompt_texts == plain.prompt_texts
    assert (hinted.flat("tokens") != plain.flat("tokens")).any()
    assert experience.arrays["memory_right"].all()
    assert not experience.arrays["proposal_right"].any()
    np.testing.assert_array_equal(experience.arrays["memory_mask"], hinted.flat("mask"))
    memory = experience.arrays["memory_tokens"][experience.arrays["memory_mask"]]
    np.testing.assert_array_equal(memory, hinted.flat("tokens")[hinted.flat("mask")])
    # Learned behind the plain prompt.
    _, batches = family.batches(made.state, experience, 1)
    prompt = batches.batches[0]["tokens"][0, 0, : made.context.config.data.max_prompt_tokens]
    np.testing.assert_array_equal(prompt, plain.prompts[0])
    assert Chains(**state["chains"]).begun.sum() == 8


def test_a_problem_is_visited_once_in_a_step():
    """Five problems, three a step: where an epoch ends the repeated one is passed over."""
    source = ShuffledPrompts([{"prompt": str(i)} for i in range(5)], seed=3)
    state = source.first_state()
    for _ in range(7):
        prompts, state = distinct_prompts(source, state, 1, 3)
        assert len({record["id"] for record in prompts.records}) == 3


def test_a_curriculum_with_too_few_problems_is_named():
    class Two:
        def take(self, state, step, count):
            return Prompts([{"id": n % 2} for n in range(count)], np.zeros(count, int)), state

    with pytest.raises(ValueError, match="hands out 2 different problems, .*prompts_per_step=3"):
        distinct_prompts(Two(), {}, 1, 3)


def test_chains_follow_a_curriculum(trice):
    """VADE counts the proposal of each visited problem; chains stay with their problems."""
    made, family = trice(*WITHOUT_GUIDE, "objective.curriculum=vade")
    right = np.arange(8) % 2 == 0
    score = family.source.reward.score
    family.source.reward.score = lambda samples: score(samples)._replace(
        correct=right, judged=np.ones(8, bool), left_out=np.zeros(8, bool)
    )
    before = family.source.first_state()
    experience, state = family.source.collect(family.policy(made.state, 1), before, 1)
    ids = [record["id"] for record in experience.records]
    assert len(set(ids)) == 8 and not before["prompts"]["right"].any()
    np.testing.assert_array_equal(state["prompts"]["right"][ids], right)
    np.testing.assert_array_equal(state["prompts"]["wrong"][ids], ~right)
    assert state["prompts"]["right"].sum() == 4
    assert state["chains"]["begun"][ids].all() and state["chains"]["begun"].sum() == 8
    assert "curriculum/posterior_success" in experience.metrics


def test_fresh_samples_weigh_by_prompt(pieces):
    words = ("method=posterior_fresh", "batch.samples_per_prompt=4", "data.max_context_tokens=None")
    made = pieces("trice", *(f"--config.trice.{word}" for word in words))
    family = Posterior(made.context, made.stage, None, 12)
    experience, _ = family.source.collect(
        family.policy(made.state, 1), family.source.first_state(), 1
    )
    right = np.zeros((8, 4), bool)
    right[0, :2] = right[3, 1] = True
    scores = experience.scores._replace(correct=right.reshape(-1), judged=np.ones(32, bool))
    finished = experience.samples.flat("finished").reshape(8, 4)
    _, batches = family.batches(made.state, experience._replace(scores=scores), 1)
    kept = right & finished
    prompts = kept.any(axis=-1).sum()
    expected = kept / np.maximum(kept.sum(-1, keepdims=True) * prompts, 1)
    found = batches.batches[0]["weights"] if batches.batches else np.zeros((8, 4))
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(
    "words, message",
    [
        (("batch.samples_per_prompt=2",), r"samples_per_prompt=2: a chain is offered one"),
        (("method=posterior_fresh", "objective.guide=hinted"), r"guide='hinted' is of chains"),
        (("sampling.temperature=0.7",), r"temperature=0.7 is never read by method 'trice'"),
        (("objective.context_pattern=x",), r"context_pattern"),
    ],
)
def test_what_cannot_work_is_refused(trice, words, message):
    with pytest.raises(ValueError, match=message):
        trice(*words)


@pytest.mark.slow
def test_a_whole_run_learns_from_chains(tiny_run):
    from rljax.reporting.files import read_rows

    rows = read_rows(tiny_run("trice").workdir / "metrics.jsonl")
    train = [row for row in rows if row["stage"] == "trice" and row["kind"] == "train"]
    assert len(train) == 5
    assert all(0 <= row["accepted_share"] <= row["chains_right"] <= 1 for row in train)
