"""A population as a campaign runs it: copies, changed numbers, going on after an interruption."""

import json

import jax
import numpy as np
import pytest

from rljax.comparison.campaign import Campaign, run_campaign
from rljax.comparison.sweeps.lineage import copies, read_lineage
from rljax.comparison.sweeps.population import Population, Rule
from rljax.parallel.mesh import make_mesh
from rljax.training.device_loop.program import DeviceProgram
from rljax.training.device_loop.runs import SideBySide
from rljax.training.run.checkpoints import Checkpoints
from tests.training.device_loop.test_side_by_side import config_of

RATE, CLIP = "optimizer.learning_rate", "objective.clip_high"
RATES = (1e-3, 1e-2, 3e-2)


def config():
    # Rewards are rare at first; the entropy gives a gradient, and a score, at every step.
    made = config_of(objective={"entropy_weight": 0.1})
    made.evaluation.every_steps = 1
    return made


@pytest.fixture(scope="module")
def policy():
    made = config()
    mesh = make_mesh(made.mesh.to_dict(), devices=jax.devices()[:1])
    return DeviceProgram.create(made, mesh).network.init(jax.random.key(0), mesh), mesh


def campaign_in(folder, seed: int = 0) -> Campaign:
    points = tuple({RATE: rate, CLIP: 0.2} for rate in RATES)
    rule = Rule(1, "truncation", (RATE,), seed=seed)
    members = tuple(f"rate={rate}" for rate in RATES)
    population = Population(
        rule, members, (3, 4), points, "train/entropy", lambda numbers: True, folder
    )
    return Campaign("rl", config(), (3, 4), points, population=population)


def states_of(folder, policy):
    """The states that a folder keeps at the end, as NumPy arrays."""
    runs = SideBySide(DeviceProgram.create(config(), policy[1]), policy[0], [0] * 6, {})
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=runs.sharding),
        jax.eval_shape(runs.start),
    )
    checkpoints = Checkpoints(folder / "campaign/checkpoints", keep=1)
    try:
        return jax.device_get(checkpoints.restore(4, abstract)[0])
    finally:
        checkpoints.close()


@pytest.fixture(scope="module")
def whole(policy, tmp_path_factory):
    """A folder whose population has run without a break, and what was copied meanwhile."""
    folder, seen = tmp_path_factory.mktemp("whole"), []
    plain = SideBySide.copied

    def watched(self, states, sources):
        before = jax.device_get(states)
        after = plain(self, states, sources)
        seen.append((before, sources, jax.device_get(after)))
        return after

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SideBySide, "copied", watched)
        run_campaign(campaign_in(folder), folder / "campaign", *policy, lambda line: None)
    return folder, seen


def test_copies_are_bit_for_bit_with_their_optimizer(whole):
    folder, seen = whole
    assert len(seen) == 3  # after the steps 1, 2 and 3, not after the last one
    for before, sources, after in seen:
        assert len(sources) == 6 and sum(s != run for run, s in enumerate(sources)) == 2
        leaves = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        assert all(y.tobytes() == x[list(sources)].tobytes() for x, y in leaves)
        copied = [run for run, source in enumerate(sources) if run != source]
        moments = jax.tree.leaves(before.optimizer_state)
        for run in copied:  # a copy says something only where the two have differed
            assert any(np.any(x[run] != x[sources[run]]) for x in moments)
    assert len(copies(read_lineage(folder))) == 6


def test_the_next_step_is_made_with_the_numbers_of_the_lineage(whole):
    folder, _ = whole
    curves, lineage = np.load(folder / "campaign/curves.npz"), read_lineage(folder)
    numbers = [lineage.beginnings, *(each.values for each in lineage.generations)]
    rates = np.array([row[RATE] for row in numbers], np.float32).T
    np.testing.assert_allclose(curves["train/learning_rate"], rates, rtol=1e-6)
    assert len(set(rates.ravel().tolist())) > 3
    assert {value for row in numbers for value in row[CLIP]} == {0.2}  # never explored


@pytest.mark.parametrize("stop", [1, 2])
def test_going_on_is_as_if_there_had_been_no_break(stop, whole, policy, tmp_path):
    def interrupted(line: str) -> None:
        if f"step {stop} of" in line:
            raise KeyboardInterrupt

    where = tmp_path / "campaign"
    with pytest.raises(KeyboardInterrupt):
        run_campaign(campaign_in(tmp_path), where, *policy, interrupted)
    (tmp_path / "lineage.json").unlink()  # it is only shown: checkpoints say what has happened
    run_campaign(campaign_in(tmp_path), where, *policy, lambda line: None)
    folder, _ = whole
    stored = [json.loads((f / "lineage.json").read_text()) for f in (tmp_path, folder)]
    assert stored[0] == stored[1]
    curves = [np.load(f / "campaign/curves.npz") for f in (tmp_path, folder)]
    for name in curves[1].files:
        if name != "seconds":
            assert curves[0][name].tobytes() == curves[1][name].tobytes(), name
    leaves = (jax.tree.leaves(states_of(f, policy)) for f in (tmp_path, folder))
    assert all(x.tobytes() == y.tobytes() for x, y in zip(*leaves, strict=True))
    with pytest.raises(ValueError, match="belongs to another config"):
        run_campaign(campaign_in(tmp_path, seed=1), where, *policy, lambda line: None)
