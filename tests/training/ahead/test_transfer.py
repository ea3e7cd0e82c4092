"""Weights reach the sampler with the same bits on every way, whatever becomes of the trainer's."""

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from rljax.parallel.mesh import make_mesh
from rljax.sampling.config import SamplingConfig
from rljax.sampling.engine import Engine
from rljax.training.ahead.transfer import make_transfer, sent
from tests.training.ahead.meeting import Meeting

CONFIG = SamplingConfig(samples_per_prompt=2, max_new_tokens=4, stop_tokens=(1,), pad_token=0)
# Of the sampler: the trainer's devices, or others, split in another way.
SPLITS = {"the same": (0, 4), "others": (4, 8)}


@pytest.fixture(scope="module")
def meshes():
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    devices = jax.devices()
    trainer = make_mesh({"data": 1, "fsdp": 4}, devices[:4])
    return trainer, {
        name: make_mesh({"data": 2, "tensor": 2}, devices[start:stop])
        for name, (start, stop) in SPLITS.items()
    }


@pytest.mark.parametrize("where", SPLITS)
@pytest.mark.parametrize("precision", ["", "bfloat16", "int8"])
def test_all_ways_give_the_same_bits(where, precision, meshes, tiny_network, tmp_path):
    network, (trainer, samplers) = tiny_network(), meshes
    engine = Engine(network, CONFIG, samplers[where], weights=precision)
    received = {}
    with jax.set_mesh(trainer):
        for name in ("direct", "host", "storage"):
            params = network.init(jax.random.key(0), trainer)
            way = make_transfer(name, engine, tmp_path / "weights", "run")
            found = sent(way, params, 3)
            # The next update gives the buffers away.
            jax.tree.map(lambda leaf: leaf.delete(), params)
            received[name] = way.receive(found.content)
            jax.block_until_ready(received[name])
            way.forget(found.content)
            leaves = jax.tree.leaves(received[name])
            assert found.bytes == sum(leaf.nbytes for leaf in leaves) > 0
            assert found.seconds > 0
    wanted = [np.asarray(leaf) for leaf in jax.tree.leaves(received["direct"])]
    for name, weights in received.items():
        shardings = jax.tree.leaves(engine.placement(received["direct"]))
        leaves = jax.tree.leaves(weights)
        assert [leaf.sharding for leaf in leaves] == shardings, name
        assert jax.tree.structure(weights) == jax.tree.structure(received["direct"])
        for leaf, expected in zip(leaves, wanted, strict=True):
            assert leaf.dtype == expected.dtype
            assert np.asarray(leaf).tobytes() == expected.tobytes(), name
    assert not (tmp_path / "weights").exists()


def test_what_a_killed_process_left_is_removed(meshes, tiny_network, tmp_path):
    network, (trainer, samplers) = tiny_network(), meshes
    engine = Engine(network, CONFIG, samplers["others"])
    mine, theirs = tmp_path / "run-7", tmp_path / "other-7"
    for folder in (mine, theirs):
        folder.mkdir()
    way = make_transfer("storage", engine, tmp_path, "run")
    assert not mine.exists() and theirs.exists()
    with jax.set_mesh(trainer):
        found = sent(way, network.init(jax.random.key(0), trainer), 7)
    assert mine.is_dir()
    way.forget(found.content)
    assert theirs.exists() and not mine.exists()


def test_a_folder_that_cannot_be_written_is_one_line(meshes, tiny_network, tmp_path):
    network, (trainer, samplers) = tiny_network(), meshes
    (tmp_path / "file").write_text("")
    way = make_transfer(
        "storage", Engine(network, CONFIG, samplers["others"]), tmp_path / "file", "run"
    )
    with jax.set_mesh(trainer):
        params = network.init(jax.random.key(0), trainer)
        with pytest.raises(ValueError, match=r"asynchronous\.transfer_folder") as error:
            sent(way, params, 1)
    assert "\n" not in str(error.value)


def test_files_are_removed_when_no_process_will_read_them_again(meshes, tiny_network, tmp_path):
    """Two threads stand for two processes, each of which writes all shards."""
    network, (trainer, samplers) = tiny_network(), meshes
    engine = Engine(network, CONFIG, samplers["others"], weights="bfloat16")
    folder, left = tmp_path / "weights", tmp_path / "weights/run-1"
    left.mkdir(parents=True)

    def both(do):
        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(do, range(2)))

    processes = Meeting(2).processes()
    ways = both(lambda n: make_transfer("storage", engine, folder, "run", processes[n]))
    assert not left.exists()
    with jax.set_mesh(trainer):
        params = network.init(jax.random.key(0), trainer)
    found = both(lambda n: ways[n].send(params, 3))
    assert found[0].path == found[1].path == folder / "run-3"
    ways[0].forget(found[0])
    both(lambda n: ways[n].tidy())
    received = ways[1].receive(found[1])
    for leaf, wanted in zip(
        jax.tree.leaves(received), jax.tree.leaves(engine.load(params)), strict=True
    ):
        assert np.asarray(leaf).tobytes() == np.asarray(wanted).tobytes()
    ways[1].forget(found[1])
    both(lambda n: ways[n].tidy())
    assert not folder.exists()
