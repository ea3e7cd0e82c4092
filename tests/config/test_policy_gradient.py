"""Combinations that cannot work are refused with the fields that say so."""

import pytest

from rljax.config.load import complete
from rljax.config.validate import validate


def stage(method, **section):
    return complete(
        {
            "stages": ("rl",),
            "tokenizer": {"path": "symbols"},
            "data": {"kind": "symbols", "tasks": ({"name": "sort"},)},
            "rl": {"method": method, **section},
        }
    )


ON_TWO_UPDATES = {"batch": {"sequences_per_update": 64}}

REFUSED = {
    "a group baseline with one sample": (
        stage("rloo", batch={"samples_per_prompt": 1}),
        r"samples_per_prompt=1 .*config.rl.batch.samples_per_prompt",
    ),
    "values without a critic": (
        stage("ppo", objective={"value_target": "none", "value_clip": None, "value_lambda": None}),
        r"advantage='gae' reads the values of a critic.*config.rl.objective.value_target",
    ),
    "a critic that nobody reads": (
        stage("grpo", objective={"value_target": "lambda_returns"}),
        r"never reads \(config.rl.objective.advantage, config.rl.objective.value_target",
    ),
    "the sampler's difference counted twice": (
        stage("aipo", objective={"correction": "truncated"}),
        r"twice.*config.rl.objective.denominator, config.rl.objective.correction",
    ),
    "a denominator without a ratio": (
        stage("rloo", objective={"denominator": "behavior"}),
        r"denominator='behavior' is never read with ratio='none'",
    ),
    "two rules for the temperature": (
        stage("hapo", sampling={"entropy_theta": 0.3}),
        r"sampling_temperature='by_entropy' and entropy_theta=0.3 .*config.rl.sampling.entropy_th",
    ),
    "a temperature of windows": (
        stage("t_ppo", objective={"sampling_temperature": "by_entropy"}),
        r"sampling_temperature='by_entropy' is for whole .*config.rl.objective.rollouts",
    ),
    "later updates without a ratio": (
        stage("rloo", **ON_TWO_UPDATES),
        r"2 updates per step .*config.rl.batch.sequences_per_update",
    ),
    "clipping without a ratio": (
        stage("grpo", objective={"ratio": "none"}),
        r"ratio='none' does not go with surrogate='clipped'",
    ),
    "segments that were not asked for": (
        stage("grpo", objective={"ratio": "segment"}),
        r"ratio='segment' without segments.*config.rl.objective.segmentation",
    ),
    "values at cuts without cuts": (
        stage("grpo", objective={"advantage": "segment_difference"}),
        r"segmentation must be one of 'uncertain'",
    ),
    "a controller without a KL": (
        stage("dapo", objective={"kl_controller": "adaptive"}),
        r"kl_controller='adaptive' has no KL to control.*config.rl.objective.kl_placement",
    ),
    "half a group in an update": (
        stage("disco", batch={"samples_per_prompt": 8, "sequences_per_update": 4}),
        r"must be a multiple of 8 \(config.rl.batch.sequences_per_update",
    ),
    "a field out of its range": (
        stage("grpo", objective={"clip_low": -0.1}),
        r"clip_low .*-0.1.*config.rl.objective.clip_low",
    ),
    "a part's own field out of its range": (
        stage("lp_reg", objective={"proxy_weight": -1.0}),
        r"proxy_weight is -1.0.*config.rl.objective.proxy_weight",
    ),
    "a critic's section without a critic": (
        stage("grpo", critic={"warmup_updates": 3}),
        r"config.rl.critic.warmup_updates=3 is never read by method 'grpo'",
    ),
    "a filter's field without a filter": (
        stage("grpo", objective={"filter_rounds": 3}),
        r"filter_rounds=3 is never read",
    ),
}


@pytest.mark.parametrize("config, message", REFUSED.values(), ids=REFUSED)
def test_refused_before_anything_runs(config, message):
    with pytest.raises(ValueError, match=message):
        validate(config)


def test_demonstrations_are_rows_of_the_batch():
    (hpt,) = validate(stage("hpt", batch={"prompts_per_step": 4, "samples_per_prompt": 3}))
    assert hpt.batch.rows_per_prompt == 4 and hpt.batch.sequences_per_step == 16
    assert hpt.sequences_together(shared=True) == 4
    with pytest.raises(ValueError, match="3 samples and 1 more = 16 sequences"):
        batch = {"prompts_per_step": 4, "samples_per_prompt": 3, "sequences_per_update": 6}
        validate(stage("hpt", batch=batch))
