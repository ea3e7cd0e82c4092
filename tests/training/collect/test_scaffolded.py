"""The smallest hint that helps: levels, which sample is replaced, what is learned of it."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.parallel.mesh import make_mesh
from rljax.training.collect import behind_hints, scaffolded
from rljax.training.collect.experience import Policy
from rljax.training.collect.grouped import step_group, step_rows
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.sampled import Drawn
from rljax.training.collect.scaffolded import hints_of, levels_of
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.learner.compare import compare_samples
from rljax.training.learner.group import step_arrays
from tests.training.collect.test_guided import rollouts_of, scores_of
from tests.training.steps import take_step

# Of problem 0 the second part of the plan helps, of 1 nothing, 2 has no hints, 3 is solved.
HINTS = [[["sum"], ["units", "carry"]], [["sum"]], None, [["sum"]]]
HELPS = "units\ncarry"


def stage_of(**objective):
    batch = {"prompts_per_step": 4, "samples_per_prompt": 8}
    rl = {"method": "scaf_grpo", "steps": 20, "batch": batch, "objective": objective}
    return validate(complete({"stages": ("rl",), "rl": rl}))[0]


def samples_of(records, group, word):
    tokens, count = np.full((len(records), group, 1), word, np.int32), len(records)
    return Samples(
        records, ["p"] * count, np.full((count, 1), 5, np.int32), np.ones((count, 1), bool),
        rollouts_of(tokens), np.zeros(tokens.shape, np.int32), [str(word)] * count * group, 0.5,
    )  # fmt: skip


def drawn(right, step=4):
    records = [{"id": n, "prompt": f"{n}=", "hint": hint} for n, hint in enumerate(HINTS)]
    scores = scores_of([[False] * 8] * 3 + [[right] + [False] * 7])
    return Drawn(Policy({}, 0), {}, samples_of(records, 8, 1), scores, step)


@pytest.fixture
def scaffold(monkeypatch):
    """Samples behind a hint say 7, and are right where it helps."""
    asked = []

    def prompts_with(context, stage, records, texts, pattern):
        asked.append([(record["id"], text) for record, text in zip(records, texts, strict=True)])
        return np.full((len(records), 3), 9, np.int32), np.ones((len(records), 3), bool)

    def sample_texts(context, engine, weights, records, *, behind, call, most_prompts, **rest):
        assert call == len(asked) and most_prompts == 4
        return samples_of(records, 1, 7)

    def score(samples):
        texts = dict(asked[-1])
        return scores_of([texts[record["id"]] == HELPS for record in samples.records])

    monkeypatch.setattr(behind_hints, "prompts_with", prompts_with)
    monkeypatch.setattr(behind_hints, "sample_texts", sample_texts)
    context = SimpleNamespace(
        config=SimpleNamespace(data=SimpleNamespace(hint_column="hint")),
        rollout_mesh=make_mesh({"data": 1}, devices=jax.devices()[:1]),
    )
    stage = stage_of()
    stage = stage.__class__(**{**vars(stage), "data": {**stage.data, "max_context_tokens": 2}})
    made = scaffolded.ScaffoldedSamples(
        context, stage, None, SimpleNamespace(score=score), key=jax.random.key(0), first_step=0
    )
    return made, asked, stage


def test_levels_are_parts_of_tiers_one_after_the_other():
    assert levels_of([["k"], ["a", "b"], ["s"]]) == ["k", "a", "a\nb", "s"]


@pytest.mark.contract
def test_the_first_level_that_helps_takes_the_place_of_one_sample(scaffold):
    made, asked, stage = scaffold
    found = made(drawn(True))
    # Both unsolved problems at the first level; then the one that has more to be told.
    assert asked == [[(0, "sum"), (1, "sum")], [(0, "units")], [(0, HELPS)]]
    tokens = found.samples.rollouts.tokens[:, 0, 0].reshape(4, 8)
    assert tokens[0].tolist() == [1] * 7 + [7] and (tokens[1:] == 1).all()
    assert found.scores.correct.reshape(4, 8).sum(axis=1).tolist() == [1, 0, 0, 1]
    prompts = found.samples.prompts.reshape(4, 8, 3)
    assert prompts[0, 7].tolist() == [9, 9, 9] and prompts[0, 0].tolist() == [0, 0, 5]
    assert found.samples.prompt_mask.reshape(4, 8, 3)[0].sum(axis=1).tolist() == [1] * 7 + [3]
    assert found.samples.texts[7] == "7" and found.samples.texts[:7] == ["1"] * 7
    assert found.annotations.metrics == {
        "hinted_share": 0.5,
        "rescued_share": 0.25,
        "hint_level": 3.0,
        "sampled_tokens": 32 + 4,
        "guided_failures": 0.0,
    }
    assert found.annotations.seconds["sampling"] == 1.5


@pytest.mark.contract
def test_a_rescued_group_is_learned_from_as_any_other(scaffold):
    """One success of eight: 2.47 and -0.35; the model reads the hinted prompt of that row."""
    made, _, stage = scaffold
    found = made(drawn(False))
    group = step_group(found.samples, found.scores)
    arrays = step_arrays(group) | found.annotations.arrays
    arrays["old_logprobs"] = np.full(arrays["mask"].shape, -2.0, np.float32)
    advantages = np.asarray(compare_samples(stage.objective, arrays).trained["advantages"])
    advantages = advantages.reshape(4, 8)
    np.testing.assert_allclose(advantages[0], [-0.3535] * 7 + [2.4747], atol=1e-3)
    assert advantages[0].sum() == pytest.approx(0, abs=1e-5) and not advantages[1:].any()
    rows = step_rows(found.samples, group, stage)
    assert rows["tokens"][7].tolist() == [9, 9, 9, 7]
    assert rows["tokens"][6].tolist() == [0, 0, 5, 1] and rows["mask"].shape == (32, 1)


def test_nothing_is_told_at_first_nor_where_all_are_solved(scaffold):
    made, asked, _ = scaffold
    early = made(drawn(True, step=3))  # 15 % of 20 steps
    assert not asked and early.annotations.metrics["hinted_share"] == 0
    solved = drawn(True)
    solved = solved._replace(scores=scores_of([[True] + [False] * 7] * 4))
    found = made(solved)
    assert not asked and (found.samples.rollouts.tokens == 1).all()
    assert found.annotations.metrics["sampled_tokens"] == 32


def test_hints_that_cannot_be_read_are_refused():
    def context(column, problems):
        data = SimpleNamespace(hint_column=column)
        return SimpleNamespace(config=SimpleNamespace(data=data), train_problems=problems)

    for hints, tiers in (
        ("a", [["a"]]),
        (["a", "b"], [["a", "b"]]),
        ([["a"], "b"], [["a"], ["b"]]),
    ):
        assert hints_of(context("hint", []), {"id": 0, "hint": hints}) == tiers
    for wrong in (3, [["a", 3]], {"a": "b"}):
        with pytest.raises(ValueError, match="record 0: hints must be a text"):
            hints_of(context("hint", [{"hint": wrong}]), {"id": 0, "hint": wrong})
    with pytest.raises(ValueError, match="no column is named"):
        scaffolded.check_scaffold(context("", [{"prompt": "1="}]), stage_of())
    with pytest.raises(ValueError, match="none of 1 problems has any in 'hint'"):
        scaffolded.check_scaffold(context("hint", [{"hint": [[]]}]), stage_of())


@pytest.mark.parametrize(
    ("objective", "batch", "message"),
    [
        ({"group_filter": "mixed"}, {}, "it must be 'none'"),
        ({"allocation": "successive"}, {}, "it must be"),
        ({"advantage": "group_mean_sampled"}, {}, "reads demonstrations, and there are none"),
        ({}, {"share_prompts": True}, "each has its own"),
        ({"exempt_share": 2.0}, {}, "exempt_share"),
    ],
)
def test_what_does_not_go_with_it_is_refused(objective, batch, message):
    rl = {"method": "scaf_grpo", "steps": 1, "objective": objective, "batch": batch}
    with pytest.raises(ValueError, match=message):
        validate(complete({"stages": ("rl",), "rl": rl}))


def test_the_trainer_reads_what_the_sampler_read(pieces):
    """A real step in which every prompt is rescued: log-probabilities agree behind the hint too."""
    words = ("method=scaf_grpo", "objective.exempt_share=0.0", "data.max_context_tokens=32")
    made = pieces(
        "grpo", "--config.data.hint_column=completion", *(f"--config.grpo.{w}" for w in words)
    )
    PolicyGradient.check(made.context, made.stage)
    family = PolicyGradient(made.context, made.stage, None, 0)
    plain, behind = family.source.reward.score, family.source.scaffold.reward
    assert behind is family.source.reward

    def judge(right):
        def score(samples):
            scores = plain(samples)
            correct = np.full(len(samples.texts), right)
            return scores._replace(correct=correct, total=correct.astype(np.float32))

        return SimpleNamespace(score=score)

    family.source.reward, family.source.scaffold.reward = judge(False), judge(True)
    _, batches = take_step(family, made.state, 1)
    samples = batches.detail.samples
    lengths = samples.prompt_mask.sum(axis=1).reshape(8, 4)
    assert (lengths[:, :3] == lengths[:, :1]).all() and (lengths[:, 3] > lengths[:, 0] + 8).all()
    assert batches.metrics["rescued_share"] == 1.0 and batches.metrics["accuracy"] == 0.0
    gap = np.abs(batches.detail.rows["old_logprobs"] - batches.detail.rows["behavior_logprobs"])
    assert gap[batches.detail.rows["mask"]].max() < 1e-5
