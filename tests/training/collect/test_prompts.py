"""Prompt sources: what they hand out, and that their state is all that a run needs to go on."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from rljax.rewards.pool import Scores
from rljax.sampling.request import Rollouts, StopReason
from rljax.training.collect.experience import Experience, Policy
from rljax.training.collect.grouped import arrays_of
from rljax.training.collect.prompts import Prompts, ShuffledPrompts
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.sampled import SampledExperience
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.run.checkpoints import Checkpoints
from tests.training.steps import source_state, take_step

PROBLEMS = [{"prompt": f"{number}="} for number in range(5)]


def ids(prompts: Prompts) -> list[int]:
    return [record["id"] for record in prompts.records]


def test_every_problem_comes_once_in_an_epoch_and_visits_are_counted():
    source = ShuffledPrompts(PROBLEMS, seed=3)
    state, seen, visits = source.first_state(), [], []
    for step in range(1, 6):
        prompts, state = source.take(state, step, 2)
        seen += ids(prompts)
        visits += prompts.visits.tolist()
    assert sorted(seen[:5]) == sorted(seen[5:]) == list(range(5)) and seen[:5] != seen[5:]
    assert visits == [0] * 5 + [1] * 5
    assert state == {"taken": 10} and source.observe(state, None, None) is state
    again, _ = source.take({"taken": np.int64(4)}, 9, 3)
    assert ids(again) == seen[4:7]  # of the state alone


class HardestAgain:
    """A curriculum: problems in their order, but one whose samples are all wrong comes again."""

    observes = True  # scores decide over the next prompts

    def __init__(self, problems):
        self.problems = problems

    def first_state(self):
        return {"next": np.int64(0), "wrong": np.zeros(len(self.problems), bool)}

    def take(self, state, step, count, predict=None):
        wrong = np.flatnonzero(state["wrong"])[:count]
        fresh = (int(state["next"]) + np.arange(count - len(wrong))) % len(self.problems)
        chosen = [*wrong.tolist(), *fresh.tolist()]
        records = [{**self.problems[number], "id": number} for number in chosen]
        after = {"next": state["next"] + len(fresh), "wrong": state["wrong"]}
        return Prompts(records, np.zeros(count, int)), after

    def observe(self, state, samples, scores):
        right = scores.correct.reshape(len(samples.records), -1).any(axis=1)
        wrong = state["wrong"].copy()
        wrong[[record["id"] for record in samples.records]] = ~right
        return state | {"wrong": wrong}

    def metrics(self, state):
        return {"still_wrong": float(state["wrong"].sum())}


class Scripted:
    """Rollouts whose samples are right where the problem has an even number."""

    sampler = SimpleNamespace(load=lambda params: params)
    first_step = 0

    def sample(self, weights, policy, prompts, *, step, call=0):
        count = len(prompts.records)
        mask, zeros = np.ones((count, 2, 1), bool), np.zeros((count, 2, 1), np.float32)
        rollouts = Rollouts(
            tokens=np.ones((count, 2, 1), np.int32),
            mask=mask,
            **{n: zeros for n in ("logprobs", "model_logprobs", "tempered_logprobs")},
            entropy=zeros,
            temperature=zeros,
            stop_reason=np.full((count, 2), StopReason.STOP_TOKEN),
            slot_steps=np.zeros(count, int),
        )
        versions = np.full(mask.shape, policy.version, np.int32)
        texts = [str(r["id"] % 2 == 0) for r in prompts.records for _ in range(2)]
        return Samples(prompts.records, [], None, None, rollouts, versions, texts, 0.5)


class TrueIsRight:
    def score(self, samples):
        right = np.array([text == "True" for text in samples.texts], np.float32)
        none = np.zeros(len(right), bool)
        return Scores(
            total=right,
            parts={"r": right},
            correct=right == 1,
            judged=~none,
            failed=none,
            left_out=none,
            first_error=None,
        )


def test_a_curriculum_learns_from_what_it_observes():
    """One class with `take` and `observe`; its state goes through a checkpoint as any other."""
    source = SampledExperience(
        HardestAgain(PROBLEMS), Scripted(), prompts_per_step=3, reward=TrueIsRight()
    )
    state, seen = source.first_state(), []
    for step in range(1, 4):
        experience, state = source.collect(Policy({}, version=step), state, step)
        assert isinstance(experience, Experience)
        assert (experience.samples.versions == step).all()
        assert experience.metrics["still_wrong"] == state["wrong"].sum()
        seen.append([record["id"] for record in experience.records])
    assert seen == [[0, 1, 2], [1, 3, 4], [1, 3, 0]]


def test_the_state_of_a_curriculum_is_part_of_a_checkpoint(pieces):
    made = pieces("reinforce")
    state = HardestAgain(PROBLEMS).first_state()
    after = {"next": np.int64(7), "wrong": np.array([True, False, True, False, False])}
    checkpoints = Checkpoints(made.context.workdir / "saved", keep=1)
    checkpoints.save(1, made.state, {}, None, after)
    checkpoints.wait()
    found = checkpoints.source_state(1, state)
    assert found["next"] == 7 and found["wrong"].tolist() == after["wrong"].tolist()
    more = HardestAgain(PROBLEMS * 2).first_state()
    message = r"source of experience:\n.*wrong: stored bool\[5\], expected bool\[10\]"
    with pytest.raises(ValueError, match=message):
        checkpoints.source_state(1, more)
    checkpoints.save(2, made.state, {}, None)  # of a source without a state
    checkpoints.wait()
    with pytest.raises(ValueError, match="saved/2 does not say which prompts .*init_from"):
        checkpoints.source_state(2, state)
    checkpoints.close()


def test_arrays_of_an_earlier_policy_are_left_out():
    """What an annotator knew of the policy that sampled; values of states are kept."""
    samples = Scripted().sample(
        {}, Policy({}, version=4), Prompts([{"id": 0}, {"id": 1}], None), step=1
    )
    arrays = {"old_logprobs": np.zeros(4), "state_values": np.ones(4)}
    experience = Experience(samples.records, samples, arrays=arrays)
    assert arrays_of(experience, version=4) is experience.arrays
    assert list(arrays_of(experience, version=5)) == ["state_values"]
    samples.versions[1, 0] = 5  # of several policies
    assert list(arrays_of(experience, version=5)) == ["state_values"]


def test_a_sampler_may_run_ahead_of_a_family(pieces):
    """Two steps are sampled before the first is learned from: nothing in the family changes."""
    made = pieces("grpo")
    family = PolicyGradient(made.context, made.stage, made.params, 0)
    source, policy = family.source, family.policy(made.state, 1)
    first, source_after = source.collect(policy, source.first_state(), 1)
    second, _ = source.collect(policy, source_after, 2)  # of the same weights
    state, batches = family.batches(made.state, first, 1)
    _, in_turn = take_step(family, made.state, 1)
    for ours, theirs in zip(batches.batches, in_turn.batches, strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert (first.samples.versions == 0).all() and (second.samples.versions == 0).all()
    assert family.policy(state, 2).version == made.stage.batch.updates_per_step
    _, late = family.batches(state, second, 2)
    _, again = take_step(family, state, 2, source_state(family, 2))
    assert late.metrics == again.metrics  # the policy stood still
