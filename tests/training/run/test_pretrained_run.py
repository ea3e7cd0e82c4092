"""From a published checkpoint to a published checkpoint: load, train, sample, hand back."""

import importlib.util
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from rljax.config.load import load_config
from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.models.pretrained import load_params, read_config, save_pretrained
from rljax.parallel.mesh import make_mesh
from rljax.training import loop

pytest.importorskip("transformers")
pytest.importorskip("jinja2")
ROOT = Path(__file__).parents[3]
SMALL = [
    "--config.grpo.sampling.max_new_tokens=8",
    "--config.evaluation.max_new_tokens=8",
    "--config.data.max_prompt_tokens=48",
    "--config.model.dtype=float32",
    "--config.scoring.workers=0",
    "--config.mesh.fsdp=1",
    "--config.grpo.optimizer.learning_rate=0.001",
]

# Qwen3's options at a size for tests.
MODEL = ModelConfig(
    vocab_size=304,  # more rows than the tokenizer has tokens, as published ones have
    layers=2,
    width=32,
    heads=4,
    kv_heads=2,
    head_dim=8,
    mlp_width=48,
    query_key_norm="head",
    rope_base=1e6,
)
END, PAD, STOP = "<|im_end|>", "<|endoftext|>", "<|stop|>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(folder: Path) -> None:
    """One token per byte, and the marks of a chat."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[])
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = [PAD, "<|im_start|>", END, STOP]
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)


def make_folder(folder: Path) -> None:
    """The weights, the tokenizer, and two tokens that end a text."""
    network = Network.create(MODEL)
    params = network.init(jax.random.key(0), make_mesh({"data": 1}, devices=jax.devices()[:1]))
    save_pretrained(folder, network, params)
    make_tokenizer(folder)
    generation = {"eos_token_id": [258, 259], "pad_token_id": 256}
    (folder / "generation_config.json").write_text(json.dumps(generation))


def make_problems(path: Path, count: int) -> None:
    """Chats that ask for a sum, and its value."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"{a}+{a}?"}],
            "reference": str(2 * a),
        }
        for a in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The folder of a tiny model, and problems."""
    folder = tmp_path_factory.mktemp("sources")
    make_folder(folder / "model")
    make_problems(folder / "train.jsonl", 32)
    make_problems(folder / "heldout.jsonl", 8)
    return folder


def train(sources: Path, workdir: Path, options: str) -> dict:
    """The example config, shortened."""
    argument = ",".join(
        f"{name}={sources / file}"
        for name, file in (
            ("model", "model"),
            ("train", "train.jsonl"),
            ("heldout", "heldout.jsonl"),
        )
    )
    path = ROOT / "configs/examples/pretrained.py"
    config = load_config(f"{path}:{argument},smoke{options}", SMALL)
    # An untrained model solves nothing: reward what it does by chance.
    config.scoring.rewards = ({"name": f"{ROOT / 'tests/training/odd_reward.py'}:odd"},)
    return loop.run(config, workdir)


def export(*arguments: str) -> None:
    """launch/export.py in this process."""
    spec = importlib.util.spec_from_file_location("export_command", ROOT / "launch/export.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(list(arguments))


def logits_of(folder: Path, mesh) -> np.ndarray:
    network = Network.create(read_config(folder))
    params = load_params(folder, network, mesh)
    tokens = np.arange(24).reshape(2, 12) * 7 % 256
    positions = np.broadcast_to(np.arange(12), (2, 12))
    model = network.bind(params)
    return np.asarray(model.logits(model(tokens, positions, np.ones_like(tokens)).hidden))


@pytest.mark.parametrize("options", [pytest.param("", marks=pytest.mark.slow), ",lora"])
def test_a_published_model_is_trained_and_handed_back(
    options, sources, tmp_path, one_device, one_device_runs
):
    summary = train(sources, tmp_path / "run", options)
    assert np.isfinite(summary["heldout_accuracy_after"])
    out = tmp_path / "out"
    export(f"--checkpoint={tmp_path / 'run/checkpoints/grpo'}", f"--out={out}")
    before, after = logits_of(sources / "model", one_device), logits_of(out, one_device)
    assert before.shape == after.shape == (2, 12, 304)
    assert 1e-4 < np.abs(before - after).max() < 1.0  # two steps away
    files = {path.name for path in out.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= files
    assert json.loads((out / "config.json").read_text())["model_type"] == "qwen3"


def test_every_stop_token_of_the_checkpoint_ends_a_sample(sources, tmp_path, one_device_runs):
    from rljax.config.validate import validate
    from rljax.training.run.context import build_context

    argument = f"model={sources / 'model'},train={sources / 'train.jsonl'}"
    argument += f",heldout={sources / 'heldout.jsonl'},smoke"
    config = load_config(f"{ROOT / 'configs/examples/pretrained.py'}:{argument}", SMALL)
    context = build_context(config, validate(config), tmp_path)
    assert set(context.text_format.ends) == {258, 259}


def test_a_checkpoint_of_other_tensors_is_refused_before_anything_is_written(
    sources, tmp_path, one_device_runs
):
    folder = tmp_path / "sources"
    shutil.copytree(sources, folder)
    path = folder / "model/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "intermediate_size": 64}))
    with pytest.raises(ValueError, match="tensors of .* are not those of this model:\n.*has shape"):
        train(folder, tmp_path / "run", "")
    assert not (tmp_path / "run").exists()
