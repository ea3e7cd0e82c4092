"""One step of evolution, piece by piece: members, fitness, update, and that nothing is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.evolution import FITNESS
from rljax.parallel.rules import put_rows
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.families.evolution import Evolution
from rljax.training.update.optimizers import build_optimizer
from tests.training.steps import take_step

WORDS = (
    "method=eggroll",
    "batch.prompts_per_step=4",
    "objective.sigma=0.2",
    "optimizer.name=sgd",
    "optimizer.learning_rate=0.5",
    "optimizer.clip_norm=0.0",
    "sampling.max_new_tokens=4",
    "objective.prompts_per_member=2",
)


def family_of(made, first_step=0):
    return Evolution(made.context, made.stage, None, first_step)


@pytest.fixture
def evolution(pieces):
    """evolution(*words) -> made pieces, family, update."""

    def build(*words):
        stage = [f"--config.reinforce.{word}" for word in (*WORDS, *words)]
        made = pieces("reinforce", *stage)
        Evolution.check(made.context, made.stage)
        family = family_of(made)
        return made, family, family.make_update(build_optimizer(made.stage), jax.random.key(0))

    return build


def train(made, family, update, state, steps):
    """The state after these steps, and their experience."""
    found = []
    for step in steps:
        state, experience = take_step(family, state, step)
        (batch,) = experience.batches
        state, metrics = update(state, made.context.frozen, put_rows(batch, made.context.mesh))
        found.append((experience, metrics))
    return state, found


def leaves(state):
    return jax.tree.map(np.asarray, state.params)


def test_a_step_moves_the_matrices_by_the_fitness_of_their_noise(evolution):
    """Scores become the fitness of members, and params -= lr * pseudo-gradient."""
    made, family, update = evolution()
    before = jax.tree.map(np.array, made.params)
    state, [(experience, metrics)] = train(made, family, update, made.state, [1])
    (batch,), detail = experience.batches, experience.detail
    scores = detail.scores.total.reshape(2, 2, 4)  # sets, prompts of a set, members
    members = scores.swapaxes(1, 2).reshape(8, 2)
    expected = FITNESS["group_mean"](jnp.asarray(members), jnp.arange(8) // 4)
    np.testing.assert_allclose(batch["fitness"], expected, rtol=1e-6)
    assert np.ptp(batch["fitness"]) > 0.5 and (batch["update"] == 0).all()
    shown = detail.fitness.reshape(2, 2, 4)
    np.testing.assert_array_equal(shown[:, 0], shown[:, 1])
    np.testing.assert_array_equal(shown[:, 0].reshape(-1), batch["fitness"])
    assert family.key == purpose_key(made.context.config.seed, Purpose.POPULATION)
    keys = family.perturbation.keys(family.key)
    gradient = jax.jit(family.perturbation.gradient)(keys, jnp.int32(0), jnp.asarray(expected))
    moved = jax.tree.map(lambda a, g: a - 0.5 * np.asarray(g), before, gradient)

    def close(a, b):
        return np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    jax.tree.map(close, leaves(state), moved)
    np.testing.assert_array_equal(state.params["embedding"], before["embedding"])
    assert int(state.updates) == 1 and float(metrics["updates_skipped"].total) == 0
    norm = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(gradient)))
    assert float(metrics["gradient_norm"].total) == pytest.approx(norm, rel=1e-4)
    assert experience.metrics["reward"] == pytest.approx(scores.mean(), rel=1e-6)
    record = family.record(1, experience)
    assert len(record["prompts"][0]["samples"]) == 4


def test_a_run_that_goes_on_is_the_run_that_was_never_interrupted(evolution):
    """Noise, prompts and answers depend on the seed and the number of the step alone."""
    made, family, update = evolution()
    half, _ = train(made, family, update, made.state, [1, 2])
    saved = jax.tree.map(jnp.copy, half)
    whole, rest = train(made, family, update, half, [3])
    again = family_of(made)
    resumed, same = train(made, again, update, saved, [3])
    jax.tree.map(np.testing.assert_array_equal, leaves(whole), leaves(resumed))
    for a, b in zip(rest, same, strict=True):
        np.testing.assert_array_equal(a[0].batches[0]["fitness"], b[0].batches[0]["fitness"])


def test_equal_scores_change_nothing_and_a_broken_one_is_skipped(evolution):
    made, family, update = evolution()
    before = jax.tree.map(np.array, made.params)
    batch = {"fitness": np.zeros(8, np.float32), "update": np.full(8, 3, np.int32)}
    mesh = made.context.mesh
    state, _ = update(made.state, {}, put_rows(batch, mesh))
    jax.tree.map(np.testing.assert_array_equal, leaves(state), before)
    batch["fitness"][5] = np.nan
    state, metrics = update(state, {}, put_rows(batch, mesh))
    jax.tree.map(np.testing.assert_array_equal, leaves(state), before)
    assert int(state.skipped) == int(state.skipped_in_a_row) == 1
    assert float(metrics["updates_skipped"].total) == 1


def test_later_stages_and_steps_have_other_noise(evolution):
    """Updates are counted over the run: steps of the stages before this one come first."""
    made, _, _ = evolution()
    _, experience = take_step(family_of(made, first_step=7), made.state, 2)
    assert (experience.batches[0]["update"] == 8).all()


def test_members_without_noise_give_the_same_answer(evolution):
    made, family, _ = evolution("objective.fitness=baseline_member", "objective.sigma=0.5")
    _, experience = take_step(family, made.state, 1)
    tokens = experience.detail.samples.rollouts.tokens
    np.testing.assert_array_equal(tokens[:, 0], tokens[:, 1])
    assert (tokens[:, 0] != tokens[:, 2]).any()
    fitness = experience.batches[0]["fitness"].reshape(2, 4)
    assert (fitness[:, :2] == 0).all()


@pytest.mark.parametrize(
    "words, message",
    [
        (["batch.samples_per_prompt=3"], "samples_per_prompt=3 .* must be even"),
        (
            ["objective.fitness=baseline_member", "batch.samples_per_prompt=2"],
            "must be even and more than 2",
        ),
        (["objective.prompts_per_member=3"], "prompts_per_member=3 does not divide"),
        (["objective.modules=('queri',)"], r"\['queri'\]"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(evolution, words, message):
    with pytest.raises(ValueError, match=message):
        evolution(*words)


@pytest.mark.slow
def test_the_reward_rises_from_forward_passes_alone(evolution):
    """Answers of an odd number of characters, 120 updates of 64 members."""
    made, family, update = evolution(
        "batch.prompts_per_step=8",
        "batch.samples_per_prompt=8",
        "objective.prompts_per_member=1",
        "objective.sigma=0.1",
    )
    _, found = train(made, family, update, made.state, range(1, 121))
    rewards = [experience.metrics["reward"] for experience, _ in found]
    assert np.mean(rewards[-10:]) > np.mean(rewards[:10]) + 0.2
