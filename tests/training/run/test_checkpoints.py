"""Checkpoints: what is kept, and what a damaged or foreign one says."""

import logging
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rljax.training.run import checkpoints as checkpoints_module
from rljax.training.run.checkpoints import Checkpoints, Judged, MismatchError, skip_damaged
from rljax.training.run.digests import DIGESTS_FILE, WRITTEN_LAST, damage, write_digests
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


def test_one_of_several_processes_may_read_a_note(saved, monkeypatch):
    """What orbax loads it loads on all of them together."""
    monkeypatch.setattr(checkpoints_module.ocp, "load_checkpointables", None)
    assert checkpoints_module.read_note(saved / "3") == {"elapsed_seconds": 1.5}


def test_the_latest_and_the_best_are_kept_also_over_a_restart(made, tmp_path):
    state, _ = made
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, accuracy in ((1, 0.2), (2, 0.9), (3, math.nan), (4, 0.5), (5, None)):
        checkpoints.save(step, state, {}, accuracy)
    checkpoints.wait()
    assert checkpoints.steps() == [2, 4, 5]
    assert (checkpoints.best(), checkpoints.latest()) == (Judged(0.9, 2), 5)
    checkpoints.close()
    again = Checkpoints(tmp_path, keep=2)
    assert (again.best(), again.latest()) == (Judged(0.9, 2), 5)
    for step, accuracy in ((6, 0.1), (7, None), (8, 0.9)):
        again.save(step, state, {}, accuracy)
    again.wait()
    # Of two equally good ones the later is kept.
    assert again.steps() == [7, 8]
    again.save(8, state, {}, 0.0)  # there already: nothing happens
    again.wait()
    assert again.best() == Judged(0.9, 8)
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
        yield name, "gone", lambda path: path.unlink()
        yield name, "empty", lambda path: path.write_bytes(b"")
        yield name, "cut", changed(lambda content: content[: len(content) // 2])
        yield name, "zeroed", changed(lambda content: bytes(64) + content[64:])
        for place in (0.0, 0.5, 1.0):
            yield name, f"bit at {place}", changed(lambda content, p=place: flipped(content, p))


def changed(change):
    """A damage that writes what `change` makes of the content."""
    return lambda path: path.write_bytes(change(path.read_bytes()))


def flipped(content: bytes, place: float) -> bytes:
    """One bit of the byte at this share of the content is another one."""
    index = round(place * (len(content) - 1))
    return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]


def test_a_damaged_checkpoint_is_refused_or_not_needed(made, saved, tmp_path):
    """Whatever happens to a file: never another state, never another kind of error."""
    state, abstract = made
    refused = set()
    for number, (name, what, change) in enumerate(damages(saved)):
        folder = tmp_path / str(number)
        shutil.copytree(saved, folder)
        change(folder / name)
        # Orbax writes two files as it gives the checkpoint its name; no number is in them.
        assert bool(damage(folder / "3")) == (str(name.relative_to("3")) not in WRITTEN_LAST)
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
    assert {"state", "note", "metrics", DIGESTS_FILE} <= refused


def test_a_damaged_checkpoint_names_the_file_and_the_one_before_it_is_taken(made, tmp_path):
    folder, aside = tmp_path / "stage", tmp_path / "damaged"
    checkpoints = Checkpoints(folder, keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, made[0], {}, None)
    checkpoints.close()
    assert skip_damaged(folder, aside) == []
    for step in (2, 3):
        change = changed(lambda content: flipped(content, 0.5))
        change(folder / str(step) / "state" / "_METADATA")
    lines = skip_damaged(folder, aside)
    assert len(lines) == 2 and all("state/_METADATA has another content" in line for line in lines)
    assert "goes on from step 1" in lines[0] and str(aside / "stage" / "3") in lines[0]
    assert [path.name for path in folder.iterdir()] == ["1"]
    again = Checkpoints(folder, keep=1)
    again.save(2, made[0], {}, None)  # made again, where the damaged one was
    again.wait()
    assert again.latest() == 2 and not damage(folder / "2")
    again.close()
    (folder / "2" / "note" / "data.json").unlink()
    with pytest.raises(ValueError, match="2 cannot be read .note/data.json is gone"):
        skip_damaged(folder, aside)
    assert (folder / "2").exists()


def test_a_full_disk_is_one_error_and_leaves_no_checkpoint(made, tmp_path, monkeypatch):
    def full(step):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints_module, "write_digests", full)
    checkpoints = Checkpoints(tmp_path / "stage", keep=1)
    checkpoints.save(1, made[0], {}, None)
    with pytest.raises(ValueError, match="stage could not be written .*No space left.*--workdir"):
        checkpoints.wait()
    monkeypatch.undo()
    again = Checkpoints(tmp_path / "stage", keep=1)
    assert again.latest() is None
    again.close()


def test_what_orbax_says_of_a_failed_save_is_not_said_again():
    """It logs a traceback of what it raises, and its late writes find no event loop."""
    said = []
    hook = checkpoints_module._quiet_about_late_answers(lambda *words: said.append(words))
    late, other = RuntimeError("Event loop is closed"), RuntimeError("something else")
    for error in (late, other):
        hook(type(error), error, None)
    assert said == [(RuntimeError, other, None)]
    records = [
        logging.LogRecord("absl", logging.ERROR, path, 1, "no space", None, None)
        for path in ("/x/site-packages/orbax/checkpoint/a.py", "/x/site-packages/jax/a.py")
    ]
    assert [bool(logging.getLogger("absl").filter(record)) for record in records] == [False, True]


def test_a_checkpoint_of_an_older_version_can_be_trusted_by_hand(saved, tmp_path):
    shutil.copytree(saved / "3", tmp_path / "3")
    (tmp_path / "3" / DIGESTS_FILE).unlink()
    assert f"python -m rljax.training.run.digests {tmp_path / '3'}" in damage(tmp_path / "3")
    write_digests(tmp_path / "3")
    assert not damage(tmp_path / "3")


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


def test_a_note_is_read_without_the_other_processes(saved, monkeypatch):
    """What orbax reads is read by all processes together: one that asks alone would wait."""
    together = "orbax.checkpoint.experimental.v1._src.synchronization.synchronization"
    monkeypatch.setattr(f"{together}.synchronize_next_operation_id", None)
    assert checkpoints_module.read_note(saved / "3") == {"elapsed_seconds": 1.5}


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
