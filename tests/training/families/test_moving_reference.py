"""TR-DPO: a reference that follows the policy, saved with the state."""

import math

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from rljax.parallel.rules import put_rows
from rljax.reporting.files import read_rows
from rljax.training import step as training_step
from rljax.training.families.preference import Preference
from rljax.training.loop import run
from rljax.training.update.moving_copy import REFERENCE, jit_move, moved
from tests.training.steps import take_step

HARD = {"reference_update_steps": 1, "reference_mixup": 1.0}


def words(**fields):
    said = {"method": "tr_dpo", "objective.reference_update_steps": 2} | fields
    return [f"--config.dpo_file.{name}={value}" for name, value in said.items()]


def of_objective(fields):
    return {f"objective.{name}": value for name, value in fields.items()}


def stored(workdir):
    """The last state of a run of `:tr_dpo`, as numpy arrays."""
    folder = workdir / "checkpoints/tr_dpo/5"
    return jax.tree.map(np.asarray, ocp.load(folder, checkpointable_name="state"))


def losses(workdir):
    rows = read_rows(workdir / "metrics.jsonl")
    rows = [row for row in rows if row["kind"] == "train" and row["stage"] == "dpo_file"]
    return [row["loss"] for row in rows]


def leaves(tree):
    return jax.tree.leaves(tree)


def test_a_move_is_a_mean_of_both(pieces):
    made = pieces("dpo_file", *words())
    before = jax.tree.map(np.asarray, made.state.carried[REFERENCE])
    policy = jax.tree.map(lambda x: 2.0 * x + 1.0, made.state.params)
    expected = jax.tree.map(lambda r, p: 0.6 * np.asarray(p) + 0.4 * r, before, policy)
    move = jit_move(made.context.network, made.context.mesh)
    after = moved(made.state.replace(params=policy), REFERENCE, move, 0.6)
    for ours, theirs in zip(leaves(after.carried[REFERENCE]), leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    for ours, theirs in zip(leaves(after.params), leaves(policy), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_it_moves_after_so_many_updates_and_only_then(pieces):
    """The policy is another one from the start, so that a move is seen."""
    made = pieces("dpo_file", *words())
    family = Preference(made.context, made.stage, None, 12)
    assert "reference" not in made.context.of("dpo_file").models
    state = made.state.replace(params=jax.tree.map(lambda x: 1.5 * x, made.state.params))
    at_start = jax.tree.map(np.asarray, state.carried[REFERENCE])

    def changed(state):
        now = leaves(state.carried[REFERENCE])
        return any((np.asarray(a) != b).any() for a, b in zip(now, leaves(at_start), strict=True))

    for step, expected in ((1, False), (2, False), (3, True)):
        state, batches = take_step(family, state, step)
        assert changed(state) is expected
    # What a batch holds is what the moved one says.
    (batch,) = batches.batches
    arrays = [family.reference_arrays(batch, of) for of in (state.carried[REFERENCE], made.params)]
    sums = [each["ref_sequence_logprobs"] for each in arrays]
    np.testing.assert_allclose(batch["ref_sequence_logprobs"], sums[0], rtol=1e-5)
    assert np.abs(sums[0] - sums[1]).max() > 0.01


def test_a_reference_that_always_follows_leaves_the_loss_at_log_2(
    tiny_config, tmp_path, one_device_runs
):
    """As every step begins at a log-ratio of 0."""
    overrides = words(**of_objective(HARD), **{"optimizer.learning_rate": 1e-2})
    run(tiny_config("dpo_file", "--config.warmup.steps=2", *overrides), tmp_path / "hard")
    assert losses(tmp_path / "hard") == pytest.approx([math.log(2)] * 5, abs=1e-6)
    never = [*words(method="dpo")[:1], "--config.dpo_file.optimizer.learning_rate=1e-2"]
    run(tiny_config("dpo_file", "--config.warmup.steps=2", *never), tmp_path / "never")
    assert losses(tmp_path / "never")[-1] < math.log(2) - 0.01


def test_a_run_that_goes_on_has_the_reference_that_it_had(
    tiny_config, tmp_path, one_device_runs, monkeypatch
):
    """Stopped in the step that moves it, which starts again from a state before the move."""
    config = tiny_config("tr_dpo", "--config.warmup.steps=2")
    run(config, tmp_path / "whole")
    calls = []

    def stopped(*given):
        calls.append(given)
        if len(calls) == 2 + 3:  # of the warm-up, and of the stage
            raise InterruptedError("the third step")
        return put_rows(*given)

    with monkeypatch.context() as patch:
        patch.setattr(training_step, "put_rows", stopped)
        with pytest.raises(InterruptedError):
            run(config, tmp_path / "stopped")
    run(config, tmp_path / "stopped")
    expected, found = (stored(tmp_path / name) for name in ("whole", "stopped"))
    for ours, theirs in zip(leaves(found), leaves(expected), strict=True):
        assert ours.tobytes() == theirs.tobytes()
    # It has moved, and is not what the policy is by now.
    reference, params = leaves(expected["carried"][REFERENCE]), leaves(expected["params"])
    assert any((a != b).any() for a, b in zip(reference, params, strict=True))


def test_held_out_pairs_are_compared_with_the_reference_as_it_is(pieces, tiny_folder):
    made = pieces("dpo_file", *words(**{"data.heldout_path": tiny_folder / "problems.jsonl"}))
    family = Preference(made.context, made.stage, None, 12)
    heldout = lambda params: {"accuracy_greedy": 0.0}  # noqa: E731
    first = family.evaluate(made.state, heldout)
    other = jax.tree.map(lambda x: 1.5 * x, made.state.params)
    after = family.evaluate(made.state.replace(carried={REFERENCE: other}), heldout)
    assert first["reward_accuracy"] == 0.0  # the policy is its reference
    assert after["reward_accuracy"] > 0.0
    assert after["required_loss"] != first["required_loss"]


def test_adapters_move_whole_or_not_at_all(tiny_config, tmp_path, one_device_runs):
    """A mixture of their factors is no mixture of what they add."""
    shared = ["--config.warmup.steps=2", "--config.model.lora.rank=2"]
    with pytest.raises(ValueError, match="reference_mixup=0.6 mixes the factors of adapters"):
        run(tiny_config("dpo_file", *shared, *words()), tmp_path / "soft")
    hard = words(**of_objective(HARD), **{"optimizer.learning_rate": 1e-2})
    run(tiny_config("dpo_file", *shared, *hard), tmp_path / "hard")
    assert losses(tmp_path / "hard") == pytest.approx([math.log(2)] * 5, abs=1e-6)
