"""Responses that are written a window at a time: their bookkeeping, and what a step learns."""

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from rljax.parallel.rules import put_rows
from rljax.training.collect.windowed import WindowedExperience
from rljax.training.collect.windows import (
    Window,
    extend,
    free_slots,
    prompts_needed,
    refill,
    release,
    window_metrics,
)
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.families.table import family_class
from rljax.training.run.checkpoints import Checkpoints
from tests.training.steps import follow_step, take_step

KILLED_RUN = Path(__file__).parents[1] / "killed_run.py"
EOS = 258
SLOTS, ROOM = 8, 6


def window_of(*rows, width=3):
    """Rows of token ids as a window whose other numbers follow from them."""
    mask = np.array([[i < len(row) for i in range(width)] for row in rows])
    tokens = np.zeros(mask.shape, np.int32)
    tokens[mask] = [token for row in rows for token in row]
    return Window(tokens, mask, np.where(mask, -tokens / 8, 0.0).astype(np.float32), mask * 1.5)


def filled(slots, *, step, samples_per_prompt):
    """Refilled from problems in the order of their ids, the second of their visits."""
    first = -(-int(slots.taken) // samples_per_prompt)
    ids = first + np.arange(prompts_needed(slots, samples_per_prompt))
    return refill(
        slots, step=step, samples_per_prompt=samples_per_prompt, ids=ids, visits=np.ones_like(ids)
    )


def test_slots_are_filled_in_order_and_go_on():
    assert prompts_needed(free_slots(3, 5), 2) == 2
    slots = filled(free_slots(3, 5), step=1, samples_per_prompt=2)
    assert slots.prompt.tolist() == [0, 0, 1] and slots.sample.tolist() == [0, 1, 0]
    slots, new = extend(slots, window_of([1, 2, 3], [4], [5, 6, 7]))
    assert new.sum(axis=1).tolist() == [3, 1, 3]
    done = np.array([False, True, False])
    metrics = window_metrics(slots, new, done, step=1)
    assert metrics == {
        "finished_responses": 1.0,
        "partial_share": pytest.approx(2 / 3),
        "window_age": 1.0,
        "decode_steps": 3.0,
    }
    assert prompts_needed(release(slots, done), 2) == 0
    slots = filled(release(slots, done), step=2, samples_per_prompt=2)
    assert slots.visit.tolist() == [1, 1, 1]
    assert slots.prompt.tolist() == [0, 1, 1] and slots.sample.tolist() == [0, 1, 0]
    assert slots.began.tolist() == [1, 2, 1] and slots.taken == 4
    slots, new = extend(slots, window_of([8, 9], [10, 11], [12]), version=7)
    assert slots.version.tolist() == [[0, 0, 0, 7, 7], [7, 7, 0, 0, 0], [0, 0, 0, 7, 0]]
    assert slots.tokens.tolist() == [[1, 2, 3, 8, 9], [10, 11, 0, 0, 0], [5, 6, 7, 12, 0]]
    assert slots.length.tolist() == [5, 2, 4]
    assert new.astype(int).tolist() == [[0, 0, 0, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 1, 0]]
    np.testing.assert_array_equal(slots.logprobs, -slots.tokens / 8)
    np.testing.assert_array_equal(slots.temperature, 1.5 * slots.written)
    assert window_metrics(slots, new, done, step=2)["window_age"] == pytest.approx(5 / 3)


@pytest.mark.parametrize(
    "rows, message",
    [
        (([1], [], [2]), r"Slot 1 wrote 0 tokens after 0: at least one"),
        (([1], [2], [3, 4, 5]), r"Slot 2 wrote 3 tokens after 0.*no more than 2 in all"),
    ],
)
def test_a_window_that_cannot_be(rows, message):
    with pytest.raises(ValueError, match=message):
        extend(filled(free_slots(3, 2), step=1, samples_per_prompt=1), window_of(*rows))


@pytest.fixture
def windowed(pieces):
    """windowed(word, ...) -> pieces, with a critic that knows something, and the family."""

    def build(*words, first_step=0):
        batch = ("batch.prompts_per_step=4", "batch.samples_per_prompt=2")
        words = ("method=t_ppo", f"sampling.max_new_tokens={ROOM}", *batch, *words)
        overrides = [f"--config.reinforce.{word}" for word in words]
        made = pieces("reinforce", *overrides, "--config.sampler.shrink=()")
        critic = made.state.carried["critic"]
        keys = iter(jax.random.split(jax.random.key(3), 99))

        def noisy(x):
            return x + 0.3 * jax.random.normal(next(keys), x.shape)

        critic = critic.replace(params=jax.tree.map(noisy, critic.params))
        state = made.state.replace(carried={**made.state.carried, "critic": critic})
        made = made._replace(state=state)
        return made, family_class(made.stage)(made.context, made.stage, None, first_step)

    return build


WHOLE = (
    "objective.rollouts=whole",
    "objective.truncation=terminal",
    "batch.share_prompts=False",
)
ENDS = f"sampling.logit_bias=(({EOS},4.0),)"  # so that responses end at different lengths


def whole_step(family, state, step):
    """A step of whole rollouts, under the noise of the stage's first step."""
    moved = PolicyGradient(family.context, family.stage, None, 1 - step)
    return take_step(moved, state, step)[1]


def assert_same_arrays(ours, theirs):
    assert set(ours) == set(theirs)
    for name, expected in theirs.items():
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(ours[name], expected, rtol=0, atol=2e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(ours[name], expected, err_msg=name)


def test_a_window_as_long_as_the_limit_is_ordinary_ppo(windowed):
    """Batches and all that belongs to them: samples, masks, advantages, targets."""
    update = "batch.sequences_per_update=4"
    made, family = windowed(ENDS, update, "objective.window_tokens=9")
    _, reference = windowed(ENDS, update, *WHOLE)
    assert isinstance(family.source, WindowedExperience)
    assert not isinstance(reference.source, WindowedExperience)
    state, source = made.state, family.source.first_state()
    for step in (1, 2):
        state, ours, source = follow_step(family, state, step, source)
        theirs = whole_step(reference, made.state, step)
        lengths = ours.detail.rows["mask"].sum(axis=1)
        assert len(set(lengths)) > 2 and ROOM in lengths
        assert_same_arrays(ours.detail.inputs, theirs.detail.inputs)
        for name in ("mask", "advantages", "returns", "value_mask", "values", "old_logprobs"):
            np.testing.assert_allclose(
                *(e.detail.rows[name] for e in (ours, theirs)), rtol=0, atol=2e-5, err_msg=name
            )
        assert ours.metrics["reward"] == theirs.metrics["reward"] and ours.tokens == theirs.tokens
        assert ours.metrics["finished_responses"] == SLOTS
        if step == 1:  # later the updates are in another order, as the test's noise is
            assert len(ours.batches) == len(theirs.batches) == 2
            for batches in zip(ours.batches, theirs.batches, strict=True):
                assert_same_arrays(*batches)


@pytest.fixture(scope="module")
def kept():
    """What one test has made for the others, in host memory."""
    return {}


@pytest.fixture
def history(windowed, kept):
    """Five steps of windows of two tokens, of a policy that stands still.

    The batches of each step and the slots after it; the record of the last step; and a sixth step,
    as it was and as other objects made it from a checkpoint of the fifth.
    """
    if not kept:
        made, family = windowed(ENDS, "objective.window_tokens=2")
        state, source, steps = made.state, family.source.first_state(), []
        for step in range(1, 6):
            state, batches, source = follow_step(family, state, step, source)
            steps.append((batches, source["slots"]))
        kept["slots"] = source["slots"]
        kept["next"] = jax.device_get(follow_step(family, state, 6, source))
        checkpoints = Checkpoints(made.context.workdir / "saved", keep=1)
        checkpoints.save(5, state, {}, None, source)
        checkpoints.wait()
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
        )
        restored, _ = checkpoints.restore(5, abstract)
        other = PolicyGradient(made.context, made.stage, None, 0)
        source = checkpoints.source_state(5, other.source.first_state())
        checkpoints.close()
        kept["next_after_restart"] = jax.device_get(follow_step(other, restored, 6, source))
        kept["order"] = [family.source.prompts.records[place]["id"] for place in range(20)]
        kept["steps"], kept["record"] = steps, family.record(5, steps[-1][0])
        kept["start"], kept["shown"] = made.state, made.context.config.reporting.rollout_prompts
    return SimpleNamespace(**kept)


def test_every_token_is_learnt_from_once(history, windowed):
    """By the policy when it is new, by the critic when its response is complete."""
    made, reference = windowed(ENDS, *WHOLE)
    rollouts = [whole_step(reference, made.state, s).detail.samples for s in range(1, 5)]
    policy, critic, seen = {}, {}, {}
    for number, (experience, slots) in enumerate(history.steps, start=1):
        (batch,) = experience.batches
        rows, samples = experience.detail.rows, experience.detail.samples
        assert batch["tokens"].shape[0] == SLOTS
        # Each token carries the version of the weights that wrote it: the step's, where it is new.
        versions = samples.versions[:, 0]
        assert (versions[batch["mask"]] == number - 1).all()
        assert (versions[samples.rollouts.mask[:, 0] & ~batch["mask"]] < number - 1).all()
        whole = samples.rollouts.mask[:, 0]
        assert batch["mask"].any(axis=1).all() and batch["mask"].sum(axis=1).max() <= 2
        goes_on = ~samples.rollouts.complete
        assert not batch["value_mask"][goes_on].any()
        np.testing.assert_array_equal(batch["value_mask"][~goes_on], whole[~goes_on])
        for slot in range(SLOTS):
            address = history.order.index(slots["prompt"][slot]), int(slots["sample"][slot])
            policy[address] = policy.get(address, 0) + batch["mask"][slot].astype(int)
            critic[address] = critic.get(address, 0) + batch["value_mask"][slot].astype(int)
            seen[address] = whole[slot], not goes_on[slot], samples.rollouts.tokens[slot, 0]
        np.testing.assert_array_equal(slots["length"] == 0, ~goes_on)
        assert (rows["advantages"][~batch["mask"]] == 0).all()
    lengths = set()
    for address, (written, finished, tokens) in seen.items():
        prompt, sample = address
        np.testing.assert_array_equal(policy[address], written.astype(int))
        np.testing.assert_array_equal(critic[address], written.astype(int) * finished)
        theirs = rollouts[prompt // 4].rollouts
        expected = theirs.tokens[prompt % 4, sample], theirs.mask[prompt % 4, sample]
        np.testing.assert_array_equal(tokens[written], expected[0][written])
        assert (written == expected[1]).all() if finished else (written <= expected[1]).all()
        if finished:
            lengths.add(int(written.sum()))
    assert len(lengths) > 3 and ROOM in lengths
    assert sorted(seen) == [(i // 2, i % 2) for i in range(len(seen))]


def test_advantages_are_those_of_egae(history):
    """Against the equations in float64; whitened over the new tokens, as the sheet has it."""
    kinds = set()
    for experience, _ in history.steps:
        rows, responses = experience.detail.rows, experience.detail.samples.rollouts
        scores = experience.detail.scores.total.astype(np.float64)
        expected, targets = np.zeros((SLOTS, ROOM)), np.zeros((SLOTS, ROOM))
        for slot in range(SLOTS):
            length = int(responses.mask[slot].sum())
            done = bool(responses.complete[slot])
            kinds.add((done, length > 2))
            values = rows["values"][slot, :length].astype(np.float64)
            after = 0.0 if done else values[-1]
            deltas = np.append(values[1:], after) - values
            if done:
                deltas[-1] += scores[slot]
                targets[slot, :length] = scores[slot]
            else:
                assert np.isnan(scores[slot])
            for t in range(length):
                weights = 0.95 ** np.arange(length - t)
                expected[slot, t] = (weights * deltas[t:]).sum()
        mask = rows["mask"]
        kept = expected[mask]
        expected = np.where(mask, (expected - kept.mean()) / np.sqrt(kept.var(ddof=1) + 1e-8), 0)
        np.testing.assert_allclose(rows["advantages"], expected, atol=2e-5)
        np.testing.assert_allclose(rows["returns"], targets, atol=1e-6)
        assert np.abs(rows["values"]).max() > 0.05
    assert kinds == {(True, True), (True, False), (False, True), (False, False)}


def test_metrics_are_of_finished_responses(history):
    for number, (experience, _) in enumerate(history.steps, start=1):
        metrics, detail = experience.metrics, experience.detail
        done = detail.samples.rollouts.complete
        assert metrics["finished_responses"] == done.sum() > 0
        assert metrics["partial_share"] == pytest.approx(1 - done.mean())
        assert metrics["decode_steps"] == 2 and 1 <= metrics["window_age"] <= number
        assert metrics["reward"] == pytest.approx(detail.scores.total[done].mean())
        lengths = detail.samples.flat("mask").sum(axis=1)
        assert metrics["completion_tokens"] == pytest.approx(lengths[done].mean())
        assert experience.tokens == detail.rows["mask"].sum()
        assert "groups_without_signal" not in metrics
    ages = [experience.metrics["window_age"] for experience, _ in history.steps]
    assert ages[0] == 1.0 and max(ages) > 1.0


def test_the_record_shows_responses_as_far_as_they_are_written(history):
    experience, _ = history.steps[-1]
    detail = experience.detail
    assert len(history.record["prompts"]) == min(SLOTS, history.shown)
    for slot, prompt in enumerate(history.record["prompts"]):
        (sample,) = prompt["samples"]
        written = detail.samples.rollouts.mask[slot, 0]
        assert prompt["id"] == detail.samples.records[slot]["id"]
        assert len(sample["tokens"]) == len(sample["logprobs"]) == written.sum()
        done = detail.samples.rollouts.complete[slot]
        assert (sample["reward"] is None) != done
        old = ~detail.rows["mask"][slot][written]
        assert (np.array(sample["advantage"])[old] == 0).all()
        assert (np.array(sample["ratio"])[old] == 1).all()


def test_a_restored_state_goes_on_with_the_same_responses(history):
    """Saved in the middle of responses, restored into fresh objects."""
    assert history.slots["length"].max() > 0
    expected, experience, slots = history.next
    after, again, other_slots = history.next_after_restart
    pairs = zip(
        jax.tree.leaves((after, other_slots)), jax.tree.leaves((expected, slots)), strict=True
    )
    for ours, theirs in pairs:
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()
    (ours,), (theirs,) = again.batches, experience.batches
    for name in theirs:
        assert ours[name].tobytes() == theirs[name].tobytes(), name
    assert again.metrics == experience.metrics


def test_the_noise_of_a_prompt_in_the_next_epoch_is_another(windowed):
    made, family = windowed("objective.window_tokens=2")
    count = len(made.context.train_problems)
    first = family.source.first_state()
    near_the_end = {
        "prompts": {"taken": np.int64(count - 1)},
        "slots": {**first["slots"], "taken": np.int64(2 * (count - 1))},
    }
    asked = []

    class Asked(Exception):
        pass

    def sample(weights, requests, **rest):
        asked.append(requests)
        raise Asked

    family.source.engine.sample = sample
    for source in (first, near_the_end):
        with pytest.raises(Asked):
            take_step(family, made.state, 1, source)
    first, last = (requests.prompt_ids.reshape(4, 2)[:, 0] for requests in asked)
    assert (first < count).all() and last[0] < count and (last[1:] >= count).all()
    again = [family.source.prompts.records[count + i]["id"] for i in range(3)]
    np.testing.assert_array_equal(last[1:] - count, again)


def test_the_critic_waits_for_finished_responses(windowed):
    """Two windows in which none finishes, then one in which all do, then again none."""
    made, family = windowed("objective.window_tokens=2", "critic.trunk=shared")
    update, state = jax.jit(family.learner.critic.step), made.state
    source = family.source.first_state()
    critic = state.carried["critic"]
    for step, finished in ((1, 0), (2, 0), (3, SLOTS), (4, 0)):
        state, experience, source = follow_step(family, state, step, source)
        assert experience.metrics["finished_responses"] == finished
        assert ("reward" in experience.metrics) == bool(finished)
        batch = put_rows(experience.batches[0], made.context.mesh)
        before = jax.device_get(critic)
        critic, _ = update(critic, state.params, batch)
        moved = [
            not np.array_equal(*pair)
            for name in ("params", "optimizer_state")
            for pair in zip(
                *(jax.tree.leaves(getattr(c, name)) for c in (before, critic)), strict=True
            )
        ]
        assert any(moved) == bool(finished)


@pytest.mark.slow
def test_killed_and_continued(subprocess_environment, tmp_path):
    """A run with a checkpoint in the middle of its responses, byte by byte."""
    words = ["method=t_ppo", "objective.window_tokens=2", "steps=6", ENDS]
    overrides = [f"--config.reinforce.{word}" for word in words]
    expected, workdir = tmp_path / "expected", tmp_path / "run"
    for place, count, folder in (
        ("nowhere", 0, expected),
        ("update", 4, workdir),
        ("commit", 4, workdir),
        ("nowhere", 0, workdir),
    ):
        words = [sys.executable, KILLED_RUN, place, str(count), "reinforce", folder, *overrides]
        result = subprocess.run(
            words, env=subprocess_environment, capture_output=True, text=True, timeout=300
        )
        status = 0 if place == "nowhere" else -signal.SIGKILL
        assert result.returncode == status, (place, result.stderr[-2000:])
    for pattern in ("metrics.jsonl", "rollouts/*.json"):
        names = [path.relative_to(expected) for path in sorted(expected.glob(pattern))]
        assert names
        for name in names:
            assert (workdir / name).read_text() == (expected / name).read_text(), name
    states = []
    for folder in (workdir, expected):
        state = ocp.load(folder / "checkpoints/reinforce/6", checkpointable_name="state")
        states.append([np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)])
    assert states[0] == states[1] and len(states[0]) > 20
