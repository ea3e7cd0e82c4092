"""Evidence stages: chains of thought are cut after the phrase, the reference answer follows."""

import dataclasses

import jax
import numpy as np
import pytest

from rljax.parallel.rules import put_rows
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.request import Rollouts, StopReason
from rljax.training.collect.reference_answers import length_to_phrase, single_token
from rljax.training.collect.rollouts import Samples
from rljax.training.families.evidence import Evidence
from rljax.training.update.logprobs import model_rows
from tests.training.steps import take_step

EOS, OPEN, CLOSE = 258, 259, 260  # <answer> and </answer> are one token each


@pytest.fixture
def evidence(pieces):
    made = pieces("jepo", "--config.jepo.batch.share_prompts=False")
    return made, Evidence(made.context, made.stage, made.params, 12)


def test_thoughts_follow_a_curriculum(pieces):
    """A mixture of the sums' answers, of which all weight is on one."""
    words = ("objective.curriculum=mixture", "objective.source_weights=(0,0,0,1,0,0,0,0,0,0)")
    words = [f"--config.jepo.{word}" for word in words]
    made = pieces("jepo", "--config.data.source_column=reference", *words)
    Evidence.check(made.context, made.stage)
    source = Evidence(made.context, made.stage, made.params, 12).source
    prompts, state = source.prompts.take(source.first_state(), 1, 8)
    assert {record["reference"] for record in prompts.records} == {"3"}
    assert state["calls"] == 1 and state["visits"].sum() == 8


def samples_of(made, completions: list[list[int]]) -> Samples:
    """One prompt "1+2=" with these completions."""
    group = len(completions)
    tokens = np.full((1, group, 6), made.context.tokenizer.pad_id, np.int32)
    mask = np.zeros((1, group, 6), bool)
    for g, ids in enumerate(completions):
        tokens[0, g, : len(ids)] = ids
        mask[0, g, : len(ids)] = True
    prompt = np.array([[256, 256, *b"1+2="]], np.int32)
    texts = [made.context.tokenizer.decode(ids) for ids in completions]
    reasons = np.where(mask.any(-1), StopReason.STOP_TOKEN, StopReason.LENGTH)
    zeros = np.zeros(tokens.shape, np.float32)
    rollouts = Rollouts(
        tokens, mask, zeros, zeros, zeros, zeros, zeros, reasons, np.zeros(len(tokens), np.int32)
    )
    records = [{"id": 0, "prompt": "1+2=", "reference": "3"}]
    return Samples(records, ["1+2="], prompt, prompt < 256, rollouts, None, texts, 0.0)


def test_rows_by_hand(evidence):
    """Thought up to the phrase, then answer, closing tag and end; nothing after a bad format."""
    made, family = evidence
    completions = [
        [ord("x"), OPEN],  # ended by the phrase
        [OPEN, ord("9"), CLOSE, EOS],  # went on: what it wrote after the phrase is dropped
        [ord("x"), ord("y"), EOS],  # never wrote the phrase
        [],  # wrote nothing
    ]
    rows, format_ok, present = family._answered(samples_of(made, completions), None)
    answer = [ord("3"), CLOSE, EOS]
    assert format_ok.tolist() == [[True, True, False, False]]
    assert present.all()
    thoughts = [[ord("x"), OPEN], [OPEN], [ord("x"), ord("y"), EOS], []]
    answers = [answer, answer, [], []]
    for n in range(4):
        thought, after = len(thoughts[n]), len(thoughts[n]) + len(answers[n])
        completion = rows["tokens"][n, 6:]
        assert completion[:after].tolist() == thoughts[n] + answers[n]
        assert (completion[after:] == 256).all()
        assert rows["thought_mask"][n].tolist() == [t < thought for t in range(10)]
        assert rows["answer_mask"][n].tolist() == [thought <= t < after for t in range(10)]
        np.testing.assert_array_equal(
            rows["mask"][n], rows["thought_mask"][n] | rows["answer_mask"][n]
        )
        assert rows["positions"][n, 2 : 6 + after].tolist() == list(range(4 + after))


def test_the_answer_is_scored_after_each_samples_own_thought(evidence):
    made, family = evidence
    completions = [[ord("x"), OPEN], [OPEN], [ord("y"), OPEN], [ord("x"), OPEN]]
    rows, _, _ = family._answered(samples_of(made, completions), None)
    placed = put_rows(
        {k: rows[k] for k in ("tokens", "positions", "segment_ids", "mask")}, made.context.mesh
    )
    # Fresh parameters tell thoughts apart only a little: give their differences some weight.
    params = jax.tree.map(lambda x: 3 * x, made.params)
    logprobs = np.asarray(family.score(params, placed))
    totals = np.where(rows["answer_mask"], logprobs, 0).sum(axis=1)
    assert totals[0] == pytest.approx(totals[3], abs=1e-5)
    assert abs(totals[0] - totals[2]) > 1e-4 and abs(totals[0] - totals[1]) > 1e-4


def test_what_is_scored_has_the_distribution_that_is_sampled_from(evidence):
    """Ids without a text take no share of the likelihood: letters here, as if they had none."""
    made, _ = evidence
    token_filter = TokenFilter(textless=((97, 123),))
    stage = dataclasses.replace(made.stage, token_filter=token_filter)
    family = Evidence(made.context, stage, made.params, 12)
    _, experience = take_step(family, made.state, 1)
    (batch,), samples = experience.batches, experience.detail.samples
    rows = {k: v.reshape(32, *v.shape[2:]) for k, v in batch.items() if v.shape[:2] == (8, 4)}
    rows["mask"] = rows["thought_mask"]
    logprobs = np.asarray(family.score(made.params, put_rows(model_rows(rows), made.context.mesh)))
    sampled, thought = samples.flat("logprobs"), rows["thought_mask"][:, :6]
    written = samples.flat("tokens")[thought]
    assert thought.any() and not ((97 <= written) & (written < 123)).any()
    np.testing.assert_allclose(logprobs[:, :6][thought], sampled[thought], atol=1e-5)


def test_a_step_and_its_gradient(evidence):
    """Gradients flow through the answer's likelihood even where all advantages are zero."""
    made, family = evidence
    _, experience = take_step(family, made.state, 1)
    (batch,) = experience.batches
    assert batch["weights"].sum() == pytest.approx(1.0)
    assert batch["tokens"].shape[:2] == (8, 4)
    assert not batch["thought_mask"][..., -1].any()  # the answer has room behind any thought
    batch["format_ok"] = np.ones((8, 4), bool)
    batch["reasoning_advantages"] = np.zeros((8, 4), np.float32)
    batch["format_advantages"] = np.zeros((8, 4), np.float32)
    rows = batch["answer_mask"]
    rows[:] = False
    rows[..., 6:9] = True  # as if every sample had had the right format
    batch["mask"] = batch["thought_mask"] | rows
    gradient = jax.jit(jax.grad(family.loss_fn, has_aux=True))
    grads, metrics = gradient(made.params, put_rows(batch, made.context.mesh))
    norms = [float(np.linalg.norm(leaf)) for leaf in jax.tree.leaves(grads)]
    assert np.isfinite(norms).all() and sum(norms) > 1e-3
    assert abs(float(metrics["kl_to_start"].total)) < 1e-6


def test_samples_of_a_bad_format_take_no_part_in_the_bound(evidence):
    made, family = evidence
    _, experience = take_step(family, made.state, 1)
    (batch,) = experience.batches
    bad = ~batch["format_ok"]
    assert bad.any()
    assert not batch["answer_mask"][bad].any()
    assert (batch["reasoning_advantages"][bad] == 0).all()
    assert (experience.detail.answer_logprobs.reshape(8, 4)[bad] == 0).all()


def test_what_stands_before_the_phrase_costs(pieces):
    words = ("method=ra3", "batch.share_prompts=False", "objective.thought_cost=2.5")
    # One token is a thought and the end of its line, as those of published tokenizers may be.
    token = "--config.tokenizer.special_tokens=('<answer>','</answer>','x\\n')"
    made = pieces("jepo", token, *(f"--config.jepo.{word}" for word in words))
    family = Evidence(made.context, made.stage, None, 12)
    line, both = ord("\n"), CLOSE + 1
    completions = [[line], [ord("x"), line], [ord("x"), EOS], [both]]
    samples = samples_of(made, completions)
    rows, format_ok, present = family._answered(samples, None)
    told = family._thoughts(samples, rows, format_ok & present)
    assert told["thinks"].tolist() == [[False, True, False, True]]
    with pytest.raises(ValueError, match="thought_cost=1.0 is taken off.*bound='multi_sample'"):
        pieces("jepo", "--config.jepo.objective.thought_cost=1.0")


def test_a_solved_prompt_keeps_what_its_samples_wrote(evidence):
    made, family = evidence
    completions = [[ord("x"), OPEN, ord("3"), CLOSE, EOS], [ord("y"), EOS]]
    samples = samples_of(made, completions)
    rows, format_ok, present = family._answered(samples, np.array([True]))
    assert format_ok.tolist() == [[True, False]] and present.all()
    assert not rows["answer_mask"].any()
    for n, written in enumerate(completions):
        assert rows["tokens"][n, 6 : 6 + len(written)].tolist() == written
        assert rows["thought_mask"][n].sum() == len(written)


def test_prompts_with_a_right_sample_are_learned_from_the_verifier(pieces):
    """Samples go on after the phrase; the rows of a solved prompt are compared by their scores."""
    words = ("batch.share_prompts=False", "method=jepo_rloo")
    made = pieces("jepo", *(f"--config.jepo.{word}" for word in words))
    family = Evidence(made.context, made.stage, made.params, 12)
    experience, _ = family.source.collect(
        family.policy(made.state, 1), family.source.first_state(), 1
    )
    scores = experience.scores
    assert scores is not None
    # One-digit sums by a policy of a few steps: make prompt 0 solved in its second sample alone.
    right = np.zeros(len(scores.total), bool)
    right[1] = True
    judged = np.ones(len(right), bool)
    scores = scores._replace(
        total=right.astype(np.float32), correct=right, judged=judged, left_out=~judged
    )
    _, made_batches = family.batches(made.state, experience._replace(scores=scores), 1)
    (batch,) = made_batches.batches
    assert batch["solved"].tolist() == [True] + [False] * 7
    written = experience.samples.flat("mask").reshape(8, 4, -1).sum(axis=-1)
    np.testing.assert_array_equal(batch["thought_mask"][0].sum(axis=-1), written[0])
    assert not batch["answer_mask"][0].any()
    # Leave-one-out of 0 1 0 0 is -1/3 1 -1/3 -1/3, and its deviation 1/sqrt(3).
    np.testing.assert_allclose(
        batch["reasoning_advantages"][0], [-(3**-0.5), 1, -(3**-0.5), -(3**-0.5)], rtol=1e-4
    )
    loss = jax.jit(jax.value_and_grad(family.loss_fn, has_aux=True))
    (_, metrics), grads = loss(made.params, put_rows(batch, made.context.mesh))
    assert float(metrics["solved_share"].mean()) == pytest.approx(1 / 8)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_a_verifier_that_is_asked_for_has_to_be_there(pieces):
    with pytest.raises(ValueError, match=r"No reward given.*config.scoring.rewards"):
        pieces("jepo", "--config.jepo.method=jepo_rloo", "--config.scoring.rewards=()")


def test_a_sample_without_a_score_is_an_error_where_a_verifier_decides(pieces):
    made = pieces("jepo", "--config.jepo.method=jepo_rloo")
    family = Evidence(made.context, made.stage, made.params, 12)
    experience, _ = family.source.collect(
        family.policy(made.state, 1), family.source.first_state(), 1
    )
    left_out = np.ones(len(experience.scores.total), bool)
    unscored = experience._replace(scores=experience.scores._replace(left_out=left_out))
    with pytest.raises(ValueError, match=r"32 of 32 samples have no reward.*'jepo_rloo'"):
        family.batches(made.state, unscored, 1)


def test_the_phrase_ends_the_sample_where_it_is_one_token(evidence):
    made, _ = evidence
    assert single_token(made.context.tokenizer, "<answer>") == (OPEN,)
    assert single_token(made.context.tokenizer, "So:") == ()


class Merging:
    """A tokenizer in which token 9 spells the phrase and the beginning of an answer."""

    pieces = {1: "a", 2: "So", 3: ":", 9: ":7"}

    def decode(self, ids):
        return "".join(self.pieces[int(i)] for i in ids)


@pytest.mark.parametrize(
    "ids, length",
    [
        ([1, 2, 3, 1], 3),  # the phrase of two tokens ends with the third
        ([2, 3, 2, 3], 2),  # the first of two
        ([2, 3], 2),
        ([1, 1, 2], None),
        ([], None),
        ([2, 9, 1], None),  # "So:7": no place to cut
        ([2, 9, 2, 3], None),
    ],
)
def test_length_to_phrase(ids, length):
    assert length_to_phrase(Merging(), ids, "So:") == length


def test_a_whole_run_learns_the_answers(tiny_run):
    from rljax.reporting.files import read_rows

    rows = read_rows(tiny_run("jepo").workdir / "metrics.jsonl")
    train = [row for row in rows if row["stage"] == "jepo" and row["kind"] == "train"]
    for row in train:
        assert row["bound"] == pytest.approx(-row["answer_nll"], abs=1e-4) or row["bound"] < 0
        assert 0 <= row["format_share"] <= 1
        assert "reward" not in row and "scoring_failures" not in row  # no verifier
