"""What a stage with windows makes of unfinished responses, and what it refuses."""

import functools

import jax
import numpy as np
import pytest

from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.registry import resolve_objective
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.families.table import family_class
from rljax.training.learner.compare import compare_samples


def experience_of(complete, **overrides):
    """`compare_samples` of three rows of four tokens, the last two of them new."""
    mask = np.ones((3, 4), bool)
    new = mask & (np.arange(4) >= 2)
    arrays = {
        "mask": mask,
        "scores": np.float32([1.0, 0.0, 5.0]),
        "correct": np.array([True, False, False]),
        "finished": np.array([True, False, False]),  # the second row ended at the limit
        "group_ids": np.arange(3),
        "values": np.zeros((3, 4), np.float32),
        "behavior_logprobs": np.float32([[-9.0, -9.0, -1.0, -1.0]] * 3),
        "old_logprobs": np.full((3, 4), -1.0, np.float32),
        "trained_tokens": new,
        "complete": np.array(complete),
    }
    objective = resolve_objective("t_ppo", {"gae_lambda": 1.0, **overrides})
    return jax.device_get(jax.jit(functools.partial(compare_samples, objective))(arrays)[0])


def test_a_response_that_goes_on_has_no_score():
    """Whatever the shaping makes of it; one that ended at the limit keeps its own."""
    shaping = {"reward_shaping": "bounded_scores", "missing_end_score": -1.0}
    rows = experience_of([True, True, False], whiten_advantages=False, **shaping)
    assert rows["scores"].tolist() == [1.0, -1.0, 0.0]
    np.testing.assert_allclose(
        rows["advantages"], [[0, 0, 1, 1], [0, 0, -1, -1], [0, 0, 0, 0]], atol=1e-6
    )
    assert rows["value_mask"].tolist() == [[True] * 4, [True] * 4, [False] * 4]


def test_corrections_look_at_new_tokens_only():
    """Older tokens come from older policies: their ratio of exp(8) would reject every row."""
    rows = experience_of([True, True, False], rejection="sequences")
    assert rows["mask"].tolist() == [[False, False, True, True]] * 3
    assert (rows["correction"][rows["mask"]] == 1).all()


def t_ppo_stage(**section):
    """A resolved stage of t_ppo on a symbol task."""
    config = {
        "stages": ("rl",),
        "tokenizer": {"path": "symbols"},
        "data": {"kind": "symbols", "tasks": ({"name": "sort"},)},
        "rl": {"method": "t_ppo", **section},
    }
    return validate(complete(config))[0]


def test_the_row_has_windows_and_separate_rows():
    stage = t_ppo_stage()
    assert family_class(stage) is PolicyGradient
    assert stage.objective.values["window_tokens"] == 32 and not stage.batch.share_prompts
    assert t_ppo_stage(objective={"rollouts": "whole"}).batch.share_prompts


NO_CRITIC = {"value_target": "none", "truncation": None, "value_lambda": None}
REFUSED = {
    "a group baseline": (
        {"objective": {"advantage": "group_zscore", **NO_CRITIC}},
        r"advantage='group_zscore' compares .*a critic is needed.*config.rl.objective.rollouts",
    ),
    "a greedy baseline": (
        {"objective": {"advantage": "remax", **NO_CRITIC}},
        r"advantage='remax' compares .*a critic is needed",
    ),
    "values of macro actions": (
        {
            "objective": {
                "advantage": "macro_gae",
                "value_target": "macro_returns",
                "segmentation": "ngrams",
            }
        },
        r"advantage='macro_gae' takes every row for a finished one.*objective.advantage",
    ),
    "cut-offs as failures": (
        {"objective": {"truncation": "terminal"}},
        r"truncation='terminal' .*must be 'hold' \(config.rl.objective.truncation",
    ),
    "a group filter": (
        {"objective": {"group_filter": "mixed"}},
        r"group_filter='mixed' .*only 'none' .*config.rl.objective.group_filter",
    ),
    "demonstrations": (
        {"objective": {"demonstrations": "switch"}},
        r"demonstrations='switch' .*only 'none' .*config.rl.objective.demonstrations",
    ),
    "a KL of whole samples": (
        {"objective": {"kl_controller": "adaptive", "kl_placement": "loss", "kl_weight": 0.1}},
        r"kl_controller='adaptive' .*only 'fixed'",
    ),
    "a loss that compares the samples of a prompt": (
        {"objective": {"surrogate": "disco", "clip_low": None, "clip_high": None}},
        r"surrogate='disco' compares the samples of a prompt.*config.rl.objective.surrogate",
    ),
    "scores that compare the samples of a prompt": (
        {"objective": {"reward_shaping": "difficulty_truncation"}},
        r"reward_shaping='difficulty_truncation' compares the samples",
    ),
    "finished rows alone": (
        {"objective": {"selection": "finished"}},
        r"selection='finished' would drop .*config.rl.objective.selection",
    ),
    "likelihood of right samples": (
        {"objective": {"likelihood_weight": 0.1}},
        r"likelihood_weight=0.1 would reward the last window",
    ),
    "shared prompts": (
        {"batch": {"share_prompts": True}},
        r"share_prompts=True .*rows differ in length.*config.rl.batch.share_prompts",
    ),
    "no window": (
        {"objective": {"window_tokens": 0}},
        r"window_tokens must be a whole number >= 1, got 0 \(config.rl.objective.window_tokens",
    ),
    "a window that nobody reads": (
        {"objective": {"rollouts": "whole", "window_tokens": 8}},
        r"window_tokens=8 is never read",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_with_windows_is_refused(name):
    section, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        t_ppo_stage(**section)
