"""launch/merge.py on Hugging Face folders and checkpoints of runs."""

import dataclasses
import importlib.util
import json
import re
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from rljax.config.load import load_config
from rljax.config.model import resolve_model
from rljax.config.validate import plain, resolved_dict, validate
from rljax.data.tokenizers import ByteTokenizer
from rljax.models.merge import merge
from rljax.models.network import Network
from rljax.models.pretrained import load_params, read_config, save_pretrained
from rljax.training.run.checkpoints import Checkpoints
from rljax.training.run.start import Source, base_note
from rljax.training.update.state import create_state, state_shardings

ROOT = Path(__file__).parents[2]
SHAPE = dict(layers=2, width=16, heads=2, kv_heads=1, query_key_norm="head")


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("merge_command", ROOT / "launch/merge.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "config.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(arg=''):\n"
        f"    model, tasks = {SHAPE!r}, (dict(name='chain_sum'),)\n"
        "    return ConfigDict(dict(name='small', stages=('s',), model=model,\n"
        "        data=dict(tasks=tasks), s=dict(method='sft')))\n"
    )
    return load_config(path)


@pytest.fixture(scope="module")
def models(config, one_device):
    """The network, and parameters before and after training."""
    network = Network.create(resolve_model(config.model, ByteTokenizer().vocab_size))
    base = network.init(jax.random.key(0), one_device)
    other = network.init(jax.random.key(1), one_device)
    return network, base, jax.tree.map(lambda a, b: a + 0.1 * b, base, other)


@pytest.fixture
def folders(models, tmp_path):
    """BASE and TRAINED as Hugging Face folders; only the second one has a tokenizer."""
    network, base, trained = models
    for name, params in (("base", base), ("trained", trained)):
        save_pretrained(tmp_path / name, network, params, more_config={"eos_token_id": 7})
    (tmp_path / "trained/tokenizer.json").write_text("of the trained model")
    return tmp_path / "base", tmp_path / "trained"


def assert_same(found, expected, vocabulary):
    def cut(tree):
        return {**tree, "embedding": tree["embedding"][:vocabulary]}

    def close(a, b):
        return np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)

    jax.tree.map(close, cut(found), cut(expected))


@pytest.mark.parametrize("words", [dict(), dict(keep=0.5, scale=1.0, scope="model")])
def test_folders_are_merged(command, folders, models, one_device, tmp_path, capsys, words):
    base, trained = folders
    out, options = tmp_path / "out", [f"--{name}={value}" for name, value in words.items()]
    assert command.main([str(base), str(trained), str(out), *options]) == 0
    network = Network.create(read_config(out))
    expected = merge(*models, **words)
    assert_same(load_params(out, network, one_device), expected, network.config.vocab_size)
    assert (out / "tokenizer.json").read_text() == "of the trained model"
    assert json.loads((out / "config.json").read_text())["eos_token_id"] == 7
    found = re.fullmatch(rf"wrote {out}; ([\d.]+)% of the entries differ from {base}\n",
                         capsys.readouterr().out)  # fmt: skip
    # The scales of all norms have changed alike, and are kept together.
    assert float(found[1]) == pytest.approx(100 * words.get("keep", 0.25), abs=1.0)


def test_a_checkpoint_of_a_run_is_merged_into_the_folder_it_started_from(
    command, folders, config, models, one_device, tmp_path
):
    network, _, trained = models
    workdir, optimizer = tmp_path / "run", optax.sgd(0.1)
    state = create_state(
        jax.tree.map(lambda leaf: leaf.copy(), trained),
        optimizer,
        state_shardings(network, optimizer, one_device),
    )
    checkpoints = Checkpoints(workdir / "checkpoints" / "s", keep=1)
    checkpoints.save(3, state, base_note(Source.of(config), network), None)
    checkpoints.close()
    resolved = resolved_dict(config, validate(config))
    resolved["network"] = plain(dataclasses.asdict(network.config))
    (workdir / "config.json").write_text(json.dumps(resolved))
    words = [str(folders[0]), str(workdir / "checkpoints/s"), str(tmp_path / "out")]
    assert command.main([*words, "--dtype=bfloat16"]) == 0
    found = load_params(tmp_path / "out", Network.create(read_config(folders[0])), one_device)
    rounded = jax.tree.map(lambda x: x.astype("bfloat16").astype("float32"), merge(*models))
    assert_same(found, rounded, network.config.vocab_size)


def test_what_is_wrong_is_one_line(command, folders, models, tmp_path, capsys):
    base, trained = folders
    wider = Network.create(dataclasses.replace(models[0].config, rope_base=500.0))
    save_pretrained(tmp_path / "other", wider, models[2])
    for arguments, message in (
        ([base, "nowhere", tmp_path / "out"], "No checkpoint in"),
        ([base, trained, base], "is there already, and not an empty folder"),
        (
            [base, tmp_path / "other", tmp_path / "out"],
            "BASE and TRAINED are different models: rope_base=10000.0 and 500.0",
        ),
        ([base, trained, tmp_path / "out", "--keep=2"], "--keep must be a number in 0..1, got '2'"),
    ):
        assert command.main([str(word) for word in arguments]) == 1
        text = capsys.readouterr().err
        assert text.startswith("error: ") and message in text and text.count("\n") == 1
    assert not (tmp_path / "out").exists()
