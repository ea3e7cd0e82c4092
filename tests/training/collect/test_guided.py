"""Samples behind hints: which prompts get them, where they are put, how they are learned."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.objectives.surrogates.demonstrations import guided_ratio
from rljax.parallel.mesh import make_mesh
from rljax.rewards.pool import Scores
from rljax.sampling.request import Rollouts, StopReason
from rljax.training.collect import behind_hints, guided
from rljax.training.collect.experience import Policy
from rljax.training.collect.grouped import step_group
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.sampled import Drawn
from rljax.training.learner.compare import compare_samples
from rljax.training.learner.group import step_arrays

HINTS = ["count", None, "carry", "add"]


def stage_of(**objective):
    batch = {"prompts_per_step": 4, "samples_per_prompt": 2}
    rl = {"method": "guide_grpo", "steps": 1, "batch": batch, "objective": objective}
    return validate(complete({"stages": ("rl",), "rl": rl}))[0]


def rollouts_of(tokens):
    mask, zeros = np.ones(tokens.shape, bool), np.zeros(tokens.shape, np.float32)
    return Rollouts(
        tokens=tokens,
        mask=mask,
        logprobs=zeros - 0.5,
        model_logprobs=zeros,
        tempered_logprobs=zeros,
        entropy=zeros,
        temperature=zeros,
        stop_reason=np.full(tokens.shape[:2], StopReason.STOP_TOKEN),
        slot_steps=np.zeros(len(tokens), int),
    )


def scores_of(right):
    right = np.asarray(right, bool).reshape(-1)
    none, total = np.zeros(right.shape, bool), right.astype(np.float32)
    return Scores(total, {"r": total}, right, ~none, none, none, None)


def drawn(right):
    """Two samples of each of four problems; `right` says which."""
    records = [{"id": n, "prompt": f"{n}=", "hint": hint} for n, hint in enumerate(HINTS)]
    tokens = np.ones((4, 2, 1), np.int32)
    samples = Samples(
        records, ["p"] * 4, np.arange(4)[:, None], np.ones((4, 1), bool), rollouts_of(tokens),
        np.zeros(tokens.shape, np.int32), ["1"] * 8, 0.5,
    )  # fmt: skip
    return Drawn(Policy({}, 0), {}, samples, scores_of(right), step=1)


@pytest.fixture
def guide(monkeypatch):
    """Guided samples whose tokens say 7; the second one of a prompt is right."""
    asked, calls = [], []

    def prompts_with(context, stage, records, texts, pattern):
        asked.append([(record["id"], text) for record, text in zip(records, texts, strict=True)])
        return np.zeros((len(records), 3), np.int32), np.ones((len(records), 3), bool)

    monkeypatch.setattr(behind_hints, "prompts_with", prompts_with)

    def sample_texts(context, engine, weights, records, *, behind, call, most_prompts, **rest):
        calls.append((call, most_prompts, len(behind[0])))
        tokens = np.full((len(records), 2, 1), 7, np.int32)
        return Samples(
            records, ["p"] * len(records), np.zeros((len(records), 1), np.int32),
            np.ones((len(records), 1), bool), rollouts_of(tokens), np.zeros(tokens.shape, np.int32),
            ["7"] * tokens.shape[0] * 2, 0.25,
        )  # fmt: skip

    monkeypatch.setattr(behind_hints, "sample_texts", sample_texts)
    context = SimpleNamespace(
        config=SimpleNamespace(data=SimpleNamespace(hint_column="hint")),
        rollout_mesh=make_mesh({"data": 1}, devices=jax.devices()[:1]),
        tokenizer=SimpleNamespace(pad_id=0),
    )
    engine = None
    reward = SimpleNamespace(score=lambda samples: scores_of([0, 1] * len(samples.records)))
    made = guided.GuidedSamples(
        context, stage_of(), engine, reward, key=jax.random.key(0), first_step=0
    )
    return made, asked, calls


@pytest.mark.contract
def test_prompts_without_a_right_sample_are_sampled_behind_their_hint(guide):
    made, asked, calls = guide
    group, more = made(drawn([[0, 0], [0, 0], [0, 1], [0, 0]]))
    # Problem 1 has no hint, problem 2 is solved.
    assert asked == [[(0, "count"), (3, "add")]]
    assert group.mask[..., 0].tolist() == [[True] * 2, [False] * 2, [False] * 2, [True] * 2]
    assert group.tokens[[0, 3]].tolist() == [[[7], [7]]] * 2
    assert group.correct.tolist() == [[False, True], [False] * 2, [False] * 2, [False, True]]
    # The other noise of the step's second call, whatever the number of prompts in it.
    assert calls == [(1, 4, 2)]
    assert more.metrics == {
        "guided_share": 0.5,
        "guided_accuracy": 0.5,
        "guided_failures": 0.0,
        "sampled_tokens": 8 + 4,
    }
    assert more.seconds["sampling"] == 0.25  # of these samples alone


def test_nothing_more_is_sampled_where_all_are_solved(guide):
    made, asked, calls = guide
    group, more = made(drawn([[1, 0]] * 4))
    assert not asked and not calls and not group.mask.any()
    assert more.metrics == {"guided_share": 0.0, "sampled_tokens": 8.0}


def test_a_guided_sample_that_is_left_out_is_not_there(guide):
    made, *_ = guide
    scored = scores_of([0, 1, 0, 1, 0, 1])
    left_out = np.arange(6) == 1
    made.reward = SimpleNamespace(score=lambda _: scored._replace(left_out=left_out))
    group, more = made(drawn([[0, 0], [1, 0], [0, 0], [0, 0]]))
    assert group.mask[0, :, 0].tolist() == [True, False] and not group.mask[1].any()
    assert more.metrics["guided_accuracy"] == pytest.approx(2 / 5)


@pytest.mark.contract
def test_the_group_is_compared_whole_and_guided_rows_keep_their_denominator(guide):
    """Two wrong samples, and of two behind the hint one right: a z-score over the four."""
    made, *_ = guide
    step, stage = drawn([[0, 0], [1, 0], [1, 0], [1, 0]]), stage_of()
    group = step_group(step.samples, step.scores, guided=made(step)[0])
    arrays = step_arrays(group)
    arrays["old_logprobs"] = np.full(arrays["mask"].shape, -2.0, np.float32)
    compared = compare_samples(stage.objective, arrays)
    advantages = np.asarray(compared.trained["advantages"]).reshape(4, 4)
    np.testing.assert_allclose(advantages[0], [-0.5, -0.5, -0.5, 1.5], rtol=1e-4)
    # An absent row has no part in its group.
    np.testing.assert_allclose(advantages[1], [2**-0.5, -(2**-0.5), 0, 0], rtol=1e-4)
    behavior = np.asarray(compared.trained["behavior_logprobs"]).reshape(4, 4)
    assert behavior[0].tolist() == [-0.5] * 4


def test_a_guided_token_is_never_clipped_and_without_a_hint_has_the_ordinary_ratio():
    mask = jnp.ones((1, 3), bool)
    advantages, log_ratio = jnp.full((1, 3), 2.0), jnp.array([[-3.0, 0.0, 3.0]])
    loss, slope = jax.value_and_grad(
        lambda x: guided_ratio(x, advantages, mask)[0].sum()
    )(log_ratio)  # fmt: skip
    np.testing.assert_allclose(slope, -2 * np.exp(log_ratio), rtol=1e-6)
    capped = jax.grad(lambda x: guided_ratio(x, advantages, mask, guided_cap=10.0)[0].sum())
    np.testing.assert_allclose(capped(log_ratio)[0], [*slope[0, :2], 0.0], rtol=1e-6)


def test_hints_that_are_not_there_are_refused():
    def context(column, problems):
        data = SimpleNamespace(hint_column=column)
        return SimpleNamespace(config=SimpleNamespace(data=data), train_problems=problems)

    with pytest.raises(ValueError, match="no column is named"):
        guided.check_guidance(context("", [{"prompt": "1="}]), stage_of())
    with pytest.raises(ValueError, match="none of 2 problems has one in 'hint'"):
        guided.check_guidance(context("hint", [{"hint": None}, {"hint": ""}]), stage_of())
    with pytest.raises(ValueError, match="record 0: the hint must be a text, got"):
        guided.check_guidance(context("hint", [{"hint": 3}]), stage_of())


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (
            {"group_filter": "mixed"},
            "group_filter='mixed' does not go with demonstrat",
        ),
        ({"correction": "truncated"}, "it must be 'none'"),
        ({"selection": "second_moment"}, "selection='second_moment' does not go with"),
        ({"hint_pattern": "{prompt}"}, "hint_pattern"),
        ({"guided_cap": 0.5}, "guided_cap must be > 1"),
    ],
)
def test_what_does_not_go_with_hints_is_refused(objective, message):
    with pytest.raises(ValueError, match=message):
        stage_of(**objective)
