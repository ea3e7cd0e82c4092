"""Policy gradients whose advantage is what a teacher says of the sampled tokens."""

import dataclasses

import jax
import numpy as np
import pytest

from rljax.config.validate import validate
from rljax.parallel.rules import put_rows
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.run.models import Model
from rljax.training.update.logprobs import make_score, model_rows
from tests.training.steps import take_step

OPD = (
    "--config.grpo.method=opd",
    "--config.grpo.batch.sequences_per_update=32",
    "--config.grpo.models.teacher.start_from=model",
)


@pytest.mark.slow
@pytest.mark.parametrize("reward_weight", [0.0, 1.0])
def test_the_advantage_is_the_log_ratio_beside_the_reward(pieces, reward_weight):
    weight = f"--config.grpo.objective.reward_weight={reward_weight}"
    made = pieces("grpo", *OPD, weight, "--config.grpo.sampling.temperature=0.7")
    network = made.context.network
    params = network.init(jax.random.key(1), made.context.mesh)
    teacher = Model("teacher", network, "model", False, params)
    context = dataclasses.replace(made.context, models={"teacher": teacher})
    family = PolicyGradient(context, made.stage, None, 0)
    batches = take_step(family, made.state, 1)[1]
    (batch,) = batches.batches
    score = jax.jit(make_score(network, made.stage.token_filter, micro_batches=1))
    placed = put_rows(model_rows(batch), context.mesh)
    theirs, ours = (np.asarray(score(which, placed)) for which in (params, made.params))
    rewards = batches.detail.scores.total.reshape(*batch["mask"].shape[:-1], 1)
    expected = np.clip(theirs - ours, -20, 20) + reward_weight * rewards
    kept = batch["mask"]
    np.testing.assert_allclose(batch["advantages"][kept], expected[kept], rtol=1e-3, atol=1e-4)
    assert np.abs(expected[kept]).max() > 0.01


@pytest.mark.parametrize(
    "words, message",
    [
        (["sampling.top_p=0.9"], "compares log-probabilities of the whole vocabulary"),
        (
            ["objective.demonstrations=in_group", "batch.sequences_per_update=40"],
            "puts others among them",
        ),
        (["objective.teacher=none"], "is never read by method 'opd'|never read with"),
    ],
)
def test_what_cannot_be_compared_is_refused(tiny_config, words, message):
    with pytest.raises(ValueError, match=message):
        validate(tiny_config("grpo", *OPD, *[f"--config.grpo.{word}" for word in words]))
