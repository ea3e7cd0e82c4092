"""Methods that read rewards one by one: constraints, a base answer, several that are weighed."""

import numpy as np
import pytest

from rljax.rewards.pool import Scores
from rljax.training.collect.grouped import composed_arrays
from rljax.training.families.policy_gradient import PolicyGradient

ANSWER = "{'name':'exact_match','options':{'tag':'answer'}}"
# What parts the samples of a policy that has learned nothing.
USER = """
def signs(prompt, completion, reference): return len(set(completion)) / 8
def even(prompt, completion, reference): return float(sum(map(ord, completion)) % 2 == 0)
"""


@pytest.fixture
def collected(pieces, tmp_path):
    """collected(method, more keys of the second reward) -> family, experience, batches, state."""
    file = tmp_path / "user_rewards.py"
    file.write_text(USER)

    def run(method, keys):
        first, second = (f"{{'name':'{file}:{name}'" for name in ("signs", "even"))
        made = pieces(
            "grpo",
            f"--config.grpo.method={method}",
            "--config.grpo.batch.sequences_per_update=None",
            f"--config.scoring.rewards=({first}}},{second}{keys}}})",
        )
        family = PolicyGradient(made.context, made.stage, made.params, 0)
        policy = family.policy(made.state, 1)
        experience, _ = family.source.collect(policy, family.source.first_state(), 1)
        state, batches = family.batches(made.state, experience, 1)
        return family, experience, batches, state

    return run


def test_a_violator_is_pushed_down_and_the_base_is_the_start_s_own_answer(collected):
    family, experience, batches, _ = collected("crpg", ",'constraint':True")
    scores, mask = experience.scores, experience.samples.flat("mask")
    base = experience.arrays["base_scores"].reshape(len(experience.records), -1)
    assert (base == base[:, :1]).all() and len(np.unique(base * 8)) > 1
    even = [sum(map(ord, text)) % 2 == 0 for text in experience.samples.texts]
    assert scores.satisfied.tolist() == even
    assert 0 < scores.satisfied.sum() < len(scores.satisfied)
    rows = batches.detail.rows["advantages"][np.arange(len(mask)), mask.argmax(axis=1)]
    calibrated = 1 / (1 + np.exp(-(scores.total - base.reshape(-1))))
    paid = np.where(scores.satisfied, calibrated, 0.0)  # the policy is the reference: no KL
    np.testing.assert_allclose(rows, paid - paid.mean(), atol=1e-5)
    assert batches.metrics["constraints_satisfied"] == pytest.approx(scores.satisfied.mean())


def test_the_front_begins_with_the_first_step(collected):
    _, experience, batches, state = collected("rloo_hypervolume", ",'weight':-0.5")
    front, components = np.asarray(state.carried["front"]), experience.scores.components
    np.testing.assert_allclose(front[0], components.mean(axis=0) * [1, -1], atol=1e-6)
    assert np.isnan(front[1:]).all() and float(state.carried["meta_reward"]) == 1.0
    np.testing.assert_allclose(components @ [1, -0.5], experience.scores.total, atol=1e-6)


def test_arrays_are_those_that_are_read():
    yes = np.ones(2, bool)
    parts = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    scores = Scores(parts.sum(1), {}, yes, yes, ~yes, ~yes, None, components=parts)
    found = composed_arrays(scores, (1.0, 0.5), {"satisfied", "components", "mask"})
    assert set(found) == {"satisfied", "components"} and found["satisfied"].all()
    weights = composed_arrays(scores, (1.0, 0.5), {"component_weights"})["component_weights"]
    assert weights.dtype == np.float32 and weights.tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    "method, rewards, message",
    [
        ("crpg", f"({ANSWER},)", "rewards what satisfies constraints, and there is none"),
        ("grpo_components", f"({ANSWER},)", "weighs several rewards, and there is one"),
        (
            "grpo",
            f"({ANSWER},{{'name':'format','constraint':True}})",
            r"'format' is a constraint, which no stage reads.*rewards\[format\].constraint",
        ),
    ],
)
def test_rewards_that_do_not_go_with_the_method(pieces, method, rewards, message):
    words = [
        f"--config.grpo.method={method}",
        "--config.grpo.batch.sequences_per_update=None",
        f"--config.scoring.rewards={rewards}",
    ]
    with pytest.raises(ValueError, match=message):
        pieces("grpo", *words)
