"""Checkpoints: what is kept, and what a damaged or foreign one says."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rljax.training.run.checkpoints import Checkpoints, MismatchError
from rljax.training.update.state import abstract_state, create_state, state_shardings

pytestmark = pytest.mark.contract

OPTIMIZER = optax.adam(1e-3)


@pytest.fixture(scope="module")
def made(tiny_network, one_device):
    """A state, and the shapes into which it is restored."""
    network = tiny_network()
    shardings = state_shardings(network, OPTIMIZER, one_device)
    params = network.init(jax.random.key(0), one_device)
    state = create_state(params, OPTIMIZER, shardings)
    return state, abstract_state(network, OPTIMIZER, shardings)


@pytest.fixture(scope="module")
def saved(made, tmp_path_factory):
    """A folder with one checkpoint, of step 3; copy it before touching it."""
    folder = tmp_path_factory.mktemp("saved") / "stage"
    checkpoints = Checkpoints(folder, keep=1)
    checkpoints.save(3, made[0], {"elapsed_seconds": 1.5}, judged=0.5)
    checkpoints.close()
    return folder


def same(a, b) -> bool:
    """Bit for bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def test_a_state_comes_back_bit_for_bit_in_its_sharding(made, saved):
    state, abstract = made
    checkpoints = Checkpoints(saved, keep=1)
    restored, note = checkpoints.restore(checkpoints.latest(), abstract)
    checkpoints.close()
    assert note == {"elapsed_seconds": 1.5} and same(state, restored)
    for leaf, expected in zip(jax.tree.leaves(restored), jax.tree.leaves(abstract), strict=True):
        assert leaf.sharding == expected.sharding and leaf.dtype == expected.dtype


def test_the_latest_and_the_best_are_kept_also_over_a_restart(made, tmp_path):
    state, _ = made
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, accuracy in ((1, 0.2), (2, 0.9), (3, None), (4, 0.5), (5, None)):
        checkpoints.save(step, state, {}, accuracy)
    checkpoints.wait()
    assert checkpoints.steps() == [2, 4, 5]
    assert (checkpoints.best(), checkpoints.latest()) == (2, 5)
    checkpoints.close()
    again = Checkpoints(tmp_path, keep=2)
    assert (again.best(), again.latest()) == (2, 5)
    for step, accuracy in ((6, 0.1), (7, None), (8, 0.9)):
        again.save(step, state, {}, accuracy)
    again.wait()
    # Of two equally good ones the later is kept.
    assert again.steps() == [7, 8]
    again.save(8, state, {}, 0.0)  # there already: nothing happens
    again.wait()
    assert again.best() == 8
    again.close()


def test_without_evaluations_the_latest_are_kept(made, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    assert checkpoints.latest() is None and checkpoints.best() is None
    for step in (1, 2, 3):
        checkpoints.save(step, made[0], {}, None)
    checkpoints.close()
    assert [path.name for path in tmp_path.iterdir() if path.name.isdigit()] == ["3"]


def test_an_unfinished_checkpoint_is_not_there_and_goes_away(made, saved, tmp_path):
    folder = tmp_path / "stage"
    shutil.copytree(saved, folder)
    shutil.copytree(folder / "3", folder / "4.orbax-checkpoint-tmp-7")
    (folder / "4.orbax-checkpoint-tmp-7" / "commit_success.txt").unlink()
    checkpoints = Checkpoints(folder, keep=1)
    assert checkpoints.latest() == 3
    checkpoints.save(4, made[0], {}, None)
    checkpoints.close()
    assert not list(folder.glob("*tmp*"))


def damages(folder):
    """Yields (what, function that damages a copy)."""
    files = sorted(path.relative_to(folder) for path in (folder / "3").rglob("*") if path.is_file())
    for name in files:
        if name.name == "commit_success.txt":
            continue
        yield name, "gone", lambda path: path.unlink()
        yield name, "empty", lambda path: path.write_bytes(b"")
        yield (
            name,
            "cut",
            lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        )


def test_a_damaged_checkpoint_is_refused_or_not_needed(made, saved, tmp_path):
    """Every file is removed, emptied and cut: never another state, never another kind of error."""
    state, abstract = made
    refused = set()
    for number, (name, what, damage) in enumerate(damages(saved)):
        folder = tmp_path / str(number)
        shutil.copytree(saved, folder)
        damage(folder / name)
        try:
            checkpoints = Checkpoints(folder, keep=1)
            try:
                restored, note = checkpoints.restore(3, abstract)
            finally:
                checkpoints.close()
            assert same(state, restored) and note == {"elapsed_seconds": 1.5}, (name, what)
        except ValueError as error:
            assert f"The checkpoint {folder / '3'} cannot be read" in str(error), (name, what)
            assert "--workdir" in str(error) and len(str(error)) < 700
            refused.add(name.parts[1])
    assert {"state", "note"} <= refused


def test_a_checkpoint_of_other_shapes_names_the_arrays(made, saved, tiny_network, one_device):
    network = tiny_network(width=24, mlp_width=24)
    shardings = state_shardings(network, OPTIMIZER, one_device)
    checkpoints = Checkpoints(saved, keep=1)
    with pytest.raises(MismatchError, match="does not fit this config") as caught:
        checkpoints.restore(3, abstract_state(network, OPTIMIZER, shardings))
    assert "params/" in str(caught.value) and "float32[16" in str(caught.value)
    assert "(config.model, config.<stage>.optimizer)" in str(caught.value)
    other = optax.sgd(1e-3)
    network = tiny_network()
    shardings = state_shardings(network, other, one_device)
    with pytest.raises(MismatchError, match="expected nothing"):
        checkpoints.restore(3, abstract_state(network, other, shardings))
    checkpoints.close()


def test_other_dtypes_are_not_silently_cast(made, saved):
    """bfloat16 parameters do not come from a float32 checkpoint."""
    abstract = jax.tree.map(
        lambda leaf: (
            jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16, sharding=leaf.sharding)
            if leaf.dtype == jnp.float32
            else leaf
        ),
        made[1],
    )
    checkpoints = Checkpoints(saved, keep=1)
    with pytest.raises(MismatchError, match="float32"):
        checkpoints.restore(3, abstract)
    checkpoints.close()
