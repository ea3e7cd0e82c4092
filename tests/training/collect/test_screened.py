"""Further samples of prompts that passed: how both calls become one group; what is refused."""

import numpy as np
import pytest

from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.training.collect.experience import Policy
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.rounds import Round, drawn_at_once, sample_rounds
from rljax.training.collect.screened import Continuation
from tests.training.collect.test_guided import rollouts_of, scores_of


def samples_of(ids, group, first):
    """Tokens count from `first`; each text says its token."""
    tokens = first + np.arange(len(ids) * group).reshape(len(ids), group, 1)
    return Samples(
        [{"id": one} for one in ids], ["p"] * len(ids), np.zeros((len(ids), 1), np.int32),
        np.ones((len(ids), 1), bool), rollouts_of(tokens), np.zeros(tokens.shape, np.int32),
        [str(token) for token in tokens.reshape(-1)], 0.5,
    )  # fmt: skip


def test_prompts_that_passed_get_the_rest_of_their_samples():
    """Of three prompts a round, one passes in each of two rounds; then three more samples each."""
    right = [[[0, 1], [0, 0], [1, 1]], [[1, 1], [1, 0], [0, 0]]]
    rounds = [
        Round(samples_of(ids, 2, 100 * n), scores_of(right[n]), 0.25, {})
        for n, ids in enumerate(([1, 2, 3], [4, 5, 6]))
    ]

    def mixed(samples, scores):
        by_prompt = scores.correct.reshape(-1, 2)
        return by_prompt.any(axis=1) & ~by_prompt.all(axis=1)

    found = sample_rounds(rounds, mixed, prompts=2)
    asked = []

    def sample(weights, policy, prompts, *, step, call):
        asked.append((call, [record["id"] for record in prompts.records]))
        return samples_of([record["id"] for record in prompts.records], 3, 900)

    def scored(samples):
        return scores_of([[0, 0, 1], [0, 0, 0]]), 0.125

    whole = Continuation(sample, scored, call=4)({}, Policy({}, 0), found, 1)
    assert asked == [(4, [1, 5])]
    assert whole.samples.rollouts.tokens[..., 0].tolist() == [
        [0, 1, 900, 901, 902],
        [102, 103, 903, 904, 905],
    ]
    flat = whole.samples.rollouts.tokens.reshape(-1)
    assert whole.samples.texts == [str(token) for token in flat]
    assert whole.scores.correct.reshape(2, 5).tolist() == [
        [False, True, False, False, True],
        [True, False, False, False, False],
    ]
    assert whole.scoring_seconds == 0.625 and whole.samples.seconds == 1.5
    assert whole.samples.rollouts.mask.shape == whole.samples.versions.shape == (2, 5, 1)


def stage_of(samples=6, **objective):
    batch = {"prompts_per_step": 4, "samples_per_prompt": samples}
    rl = {"method": "speed", "steps": 1, "batch": batch, "objective": objective}
    return validate(complete({"stages": ("rl",), "rl": rl}))[0]


def test_the_sampler_draws_the_first_samples():
    assert drawn_at_once(stage_of()) == 4
    assert drawn_at_once(stage_of(samples=4)) == 4  # nothing is left: dynamic sampling


@pytest.mark.parametrize(
    ("samples", "objective", "message"),
    [
        (3, {}, "screen_samples=4 is above samples_per_prompt=3"),
        (6, {"screen_samples": 1}, "screen_samples"),
        (6, {"group_filter": "none"}, "take 'mixed'"),
        (6, {"rollouts": "windows"}, "rollouts"),
    ],
)
def test_what_does_not_go_with_it_is_refused(samples, objective, message):
    with pytest.raises(ValueError, match=message):
        stage_of(samples, **objective)
