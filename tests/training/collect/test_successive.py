"""Rounds of samples: who is asked again, what is put together, and which noise it has."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.parallel.mesh import make_mesh
from rljax.rewards.pool import Scores
from rljax.sampling.request import Rollouts, StopReason
from rljax.training.collect.experience import Policy
from rljax.training.collect.prompts import Prompts
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.successive import Successive, filled

SAMPLES = 4
# Problem 0 has both kinds at once, 1 in the second round, 2 never a right one, 3 only right ones.
RIGHT = {0: "1001 1111", 1: "0000 0011", 2: "0000 0000", 3: "1111 1111"}


def stage_of(**objective):
    batch = {"prompts_per_step": 4, "samples_per_prompt": 4}
    rl = {"method": "reinforce_ada", "steps": 1, "batch": batch, "objective": objective}
    return validate(complete({"stages": ("rl",), "rl": rl}))[0]


class Scripted:
    """Answers with one token, the number of the draw; draws of a problem are as `RIGHT` says."""

    def __init__(self):
        self.calls, self.noise = [], []

    def sample(self, weights, policy, prompts, *, step, call, most_prompts, noise_ids):
        ids = [record["id"] for record in prompts.records]
        self.noise.append(noise_ids)
        self.calls.append((call, ids, most_prompts))
        tokens = np.zeros((len(ids), SAMPLES, 1), np.int32)
        tokens[..., 0] = call * SAMPLES + np.arange(SAMPLES)
        mask, zeros = np.ones(tokens.shape, bool), np.zeros(tokens.shape, np.float32)
        rollouts = Rollouts(
            tokens=tokens,
            mask=mask,
            **{n: zeros for n in ("logprobs", "model_logprobs", "tempered_logprobs")},
            entropy=zeros,
            temperature=zeros,
            stop_reason=np.full(tokens.shape[:2], StopReason.STOP_TOKEN),
            slot_steps=np.zeros(len(ids), int),
        )
        texts = [
            RIGHT[one].replace(" ", "")[call * SAMPLES + g] for one in ids for g in range(SAMPLES)
        ]
        versions = np.full(mask.shape, policy.version, np.int32)
        prompts_of = np.array(ids)[:, None]
        return Samples(
            prompts.records, ["p"] * len(ids), prompts_of, prompts_of >= 0, rollouts, versions,
            texts, 0.5,
        )  # fmt: skip


def scored(samples):
    right = np.array([text == "1" for text in samples.texts])
    none = np.zeros(len(right), bool)
    total = right.astype(np.float32)
    return Scores(total, {"r": total}, right, ~none, none, none, None), 0.25


def drawn(scored=scored, problems=tuple(RIGHT), **objective):
    mesh = make_mesh({"data": 1}, devices=jax.devices()[:1])
    context = SimpleNamespace(rollout_mesh=mesh, train_problems=range(len(RIGHT)))
    rollouts = Scripted()
    objective = {"allocation_rounds": 2, "round_samples": SAMPLES, **objective}
    allocation = Successive(context, stage_of(**objective), rollouts.sample, scored)
    prompts = Prompts([{"id": one} for one in problems], np.zeros(4, int))
    return allocation.draw({}, Policy({}, version=3), prompts, step=1), rollouts


@pytest.mark.contract
def test_prompts_leave_and_groups_are_put_together():
    found, rollouts = drawn()
    # Three are left after the first round: they fit into no half of four.
    assert rollouts.calls == [(0, [0, 1, 2, 3], 4), (1, [1, 2, 3, 1], 4)]
    tokens = found.samples.rollouts.tokens[..., 0].tolist()
    assert tokens == [[0, 3, 1, 2], [6, 7, 0, 1], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert found.samples.texts == list("1100110000001111")
    assert found.scores.correct.tolist() == [text == "1" for text in found.samples.texts]
    arrays = found.annotations.arrays
    assert arrays["pool_means"].reshape(4, 4)[:, 0].tolist() == [0.5, 0.25, 0, 1]
    metrics = found.annotations.metrics
    assert metrics["samples_per_prompt_mean"] == (4 + 3 * 8) / 4
    assert metrics["sampled_tokens"] == 28 and metrics["allocation_left_share"] == 0.5
    assert len(found.scored.correct) == 28 and found.samples.seconds == 1.0


def test_a_sample_that_is_left_out_is_neither_counted_nor_kept():
    """The right first sample of problem 0 has no score: it needs a second round."""

    def without_one(samples):
        scores, seconds = scored(samples)
        first = np.array([text == "1" for text in samples.texts]) & (
            np.arange(len(samples.texts)) == 0
        )
        total = np.where(first, np.nan, scores.total)
        return scores._replace(left_out=first, total=total), seconds

    found, rollouts = drawn(scored=without_one)
    assert rollouts.calls[1][1] == [0, 1, 2, 3]
    tokens = found.samples.rollouts.tokens[0, :, 0].tolist()
    assert 0 not in tokens and not found.scores.left_out.any()
    pool = found.annotations.arrays["pool_means"][0]
    assert pool == pytest.approx(4 / 6)  # of 7 draws of the second and first round, one left out


def test_a_problem_that_comes_twice_keeps_its_noise():
    """The first 1 of the step leaves at once; the second keeps the address of the second."""

    def first_leaves(samples):
        scores, seconds = scored(samples)
        right = scores.correct.copy()
        if len(samples.records) == 4:
            right[:SAMPLES] = np.arange(SAMPLES) < 2
        return scores._replace(correct=right, total=right.astype(np.float32)), seconds

    _, rollouts = drawn(scored=first_leaves, problems=(1, 1, 2, 0))
    assert rollouts.calls[1][1] == [1, 2]
    assert rollouts.noise == [[1, 5, 2, 0], [5, 2]]


def test_the_positive_exit_asks_half_as_many_again():
    _, rollouts = drawn(allocation_exit="positive")
    assert rollouts.calls[1] == (1, [1, 2], 4)


def test_rounds_have_few_sizes():
    sizes = {len(filled(np.arange(active), 16, 2)) for active in range(1, 17)}
    assert sizes == {2, 4, 8, 16}
    assert filled(np.array([3, 7, 9]), 16, 1).tolist() == [3, 7, 9, 3]


@pytest.mark.parametrize(
    ("method", "objective", "message"),
    [
        ("grpo", {"advantage": "pool_mean"}, "reads all that was drawn of a prompt"),
        ("reinforce_ada", {"round_samples": 2}, "round_samples=2 is below samples_per_prompt=8"),
        ("reinforce_ada", {"group_filter": "mixed"}, "it must be 'none'"),
        ("reinforce_ada", {"curriculum": "vade"}, "keeps a balanced choice of them"),
    ],
)
def test_what_does_not_go_with_rounds_is_refused(method, objective, message):
    rl = {"method": method, "steps": 1, "objective": objective}
    with pytest.raises(ValueError, match=message):
        validate(complete({"stages": ("rl",), "rl": rl}))
