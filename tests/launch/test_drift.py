"""launch/drift.py on published folders and on checkpoints of runs."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from rljax.config.load import load_config
from rljax.config.model import resolve_model
from rljax.config.validate import plain, resolved_dict, validate
from rljax.data.tokenizers import ByteTokenizer
from rljax.models.lora import combine
from rljax.models.network import Network
from rljax.models.pretrained import save_pretrained
from rljax.models.pretrained.tensor_files import SINGLE, write_file
from rljax.reporting.weight_drift import matrix_drift
from rljax.training.run.checkpoints import Checkpoints
from rljax.training.run.start import Source, base_note, load_start
from rljax.training.update.state import create_state, state_shardings

ROOT = Path(__file__).parents[2]
QUERY, UP = "model.layers.{}.self_attn.q_proj.weight", "model.layers.{}.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("drift_command", ROOT / "launch/drift.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tensors(seed=0):
    rng = np.random.default_rng(seed)
    named = {
        name.format(layer): rng.normal(size=(6, 5)) for layer in (0, 1) for name in (QUERY, UP)
    }
    return named | {
        "model.embed_tokens.weight": rng.normal(size=(9, 5)),
        "model.norm.weight": np.ones(5),
        "model.layers.0.self_attn.qkv_proj.weight": rng.normal(size=(9, 5)),
    }


def write(folder, named, dtype="BF16"):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    shapes = {name: tensor.shape for name, tensor in named.items()}
    write_file(folder / SINGLE, shapes, iter(named.values()), dtype)
    return str(folder)


def test_published_folders(command, tmp_path, capsys):
    base, trained, other = tensors(), tensors(), tensors()
    trained[QUERY.format(1)] = base[QUERY.format(1)] * np.where(np.eye(6, 5), 1.5, 1.0)
    trained["model.norm.weight"] = 2 * np.ones(5)
    other[QUERY.format(1)] = base[QUERY.format(1)] * 1.5
    places = [write(tmp_path / n, t) for n, t in (("a", base), ("b", trained), ("c", other))]
    file = tmp_path / "drift.json"
    arguments = [*places[:2], f"--other={places[2]}", "--rank=2", "--alpha=0.25"]
    assert command.main([*arguments, f"--json={file}"]) == 0
    text, found = capsys.readouterr().out, json.loads(file.read_text())
    assert sorted(found["matrices"]) == sorted(n.format(i) for n in (QUERY, UP) for i in (0, 1))
    assert found["parameters"] == 4 * 30 + 45 + 5 + 45
    assert found["sparsity"] == pytest.approx(1 - 10 / 215)
    assert found["jaccard"] == pytest.approx(5 / 35)
    one = found["matrices"][QUERY.format(1)]
    assert one["sparsity"] == pytest.approx(25 / 30) and one["jaccard"] == pytest.approx(5 / 30)
    stored = [np.asarray(t[QUERY.format(1)], command.DTYPES["BF16"]) for t in (base, trained)]
    exact = matrix_drift(*(s.astype(np.float32) for s in stored), rank=2, alpha=0.25)
    assert one["stable_rank"] == pytest.approx(exact.stable_rank)
    assert one["principal"] == exact.principal._asdict()
    assert found["matrices"][UP.format(0)]["principal"] == {"share": 0.0, "defined": False}
    assert "model.layers.*.self_attn.q_proj.weight" in text
    assert f"unchanged of all 215 parameters: {1 - 10 / 215:.4f}" in text
    for reason in ("a table of the vocabulary", "several projections in one tensor"):
        assert f"in the total only: 1 tensors, {reason}" in text
    assert "no matrix but 1-dimensional" in text and "rounded" not in text


def test_float32_is_said_to_be_rounded(command, tmp_path, capsys):
    base = tensors()
    trained = {name: tensor * (1 + 1e-5) for name, tensor in base.items()}
    places = [write(tmp_path / n, t, "F32") for n, t in (("a", base), ("b", trained))]
    assert command.main([*places, "--match=up_proj", "--rank=2"]) == 0
    text = capsys.readouterr().out
    assert "stored as float32: rounded to bfloat16 on all sides" in text
    assert "in the total only: 2 tensors, not asked for (--match)" in text


@pytest.mark.parametrize("softcap", [0.0, 5.0])
def test_a_run_is_compared_with_where_it_started(softcap, command, tmp_path, one_device, capsys):
    """A model that fits a family with its exported start; another one with itself."""
    model = dict(layers=2, width=16, heads=2, kv_heads=1, query_key_norm="head")
    model |= dict(attention_softcap=softcap) if softcap else {}
    path, workdir = tmp_path / "config.py", tmp_path / "run"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(arg=''):\n"
        "    tasks = (dict(name='chain_sum'),)\n"
        f"    return ConfigDict(dict(name='small', stages=('s',), model={model!r},\n"
        "        data=dict(tasks=tasks), s=dict(method='sft')))\n"
    )
    config = load_config(path)
    network = Network.create(resolve_model(config.model, ByteTokenizer().vocab_size))
    source, optimizer = Source.of(config), optax.sgd(0.1)
    params = combine(*load_start(source, network, one_device))
    start = jax.tree.map(np.asarray, params)
    kernel = params["blocks"]["attention"]["query"]["kernel"]
    params["blocks"]["attention"]["query"]["kernel"] = kernel.at[1].multiply(1.5)
    state = create_state(params, optimizer, state_shardings(network, optimizer, one_device))
    checkpoints = Checkpoints(workdir / "checkpoints" / "s", keep=1)
    checkpoints.save(3, state, base_note(source, network), None)
    checkpoints.close()
    resolved = resolved_dict(config, validate(config))
    resolved["network"] = plain(dataclasses.asdict(network.config))
    (workdir / "config.json").write_text(json.dumps(resolved))
    trained, file = str(workdir / "checkpoints/s"), tmp_path / "drift.json"
    if softcap:
        base, name = trained, "blocks.attention.query.kernel.{}"
    else:
        save_pretrained(tmp_path / "base", network, jax.device_put(start))
        base, name = str(tmp_path / "base"), QUERY
    assert command.main([base, trained, "--rank=2", f"--json={file}"]) == 0
    found = json.loads(file.read_text())
    assert len(found["matrices"]) == 2 * 7  # query, key, value, out, gate, up, down
    assert found["matrices"][name.format(0)]["sparsity"] == 1
    moved = found["matrices"][name.format(1)]
    assert moved["shape"] == [16, 16]
    assert moved["sparsity"] == (1 if softcap else 0)
    assert moved["spectral_drift"] == pytest.approx(0 if softcap else 0.5, rel=1e-5)
    assert any("table of the vocabulary" in reason for reason in found["excluded"].values())


def test_what_is_wrong_is_one_line(command, tmp_path, capsys):
    base = write(tmp_path / "a", tensors())
    fewer = {name: tensor for name, tensor in tensors().items() if "up_proj" not in name}
    less = write(tmp_path / "b", fewer)
    for arguments, message in (
        ([base, "nowhere"], "No checkpoint in"),
        ([base, less], "lacks 2 tensors: model.layers.0.mlp.up_proj.weight"),
        ([base, base, "--rank=0"], "--rank must be a whole number >= 1"),
        ([base, base, "--match=("], "missing )"),
    ):
        assert command.main(arguments) == 1
        text = capsys.readouterr().err
        assert text.startswith("error: ") and message in text and text.count("\n") == 1
