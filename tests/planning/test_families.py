"""Stages of every planned family: their programs for a slice, and the shapes of their batches."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from rljax.config.load import load_config
from rljax.config.validate import validate
from rljax.planning.batches import step_rows
from rljax.planning.compiling import ENVIRONMENT, FOR_CPUS
from rljax.planning.programs import chosen
from rljax.planning.workload import lengths_of
from rljax.training.collect.experience import Policy
from rljax.training.families.table import family_class
from rljax.training.run.context import build_context

ROOT = Path(__file__).parents[2]
RLHF = str(ROOT / "configs/quickstart_rlhf.py")
JEPO = str(ROOT / "configs/quickstart_jepo.py")
EVOLUTION = str(ROOT / "configs/evolution.py")

LOWER = """
import json, sys
import jax
from rljax.planning.chips import read_topology
from rljax.planning.programs import open_run
from rljax.planning.worker import described

def lowered(config, stage, *overrides):
    run = open_run(config, overrides, read_topology("v5e:2x2"), stage)
    for name in {"scores", "reference", "update"} & run.programs.keys():
        with jax.set_mesh(run.mesh_of(name)):
            run.programs[name].lower()
    return described(run)

print(json.dumps([lowered(*words) for words in json.loads(sys.argv[1])]))
"""
FOLDER = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e4,
    "tie_word_embeddings": True,
    "attention_bias": False,
}
WITHOUT_WEIGHTS = """
def get_config():
    return dict(
        name="folder",
        stages=("sft",),
        model=dict(init_from={folder!r}),
        tokenizer=dict(path="byte"),
        data=dict(tasks=(dict(name="chain_sum"),), train_size=16, max_prompt_tokens=256),
        sft=dict(method="sft", data=dict(row_tokens=512), batch=dict(sequences_per_update=8)),
    )
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    (folder / "config.json").write_text(json.dumps(FOLDER))
    config = folder / "run.py"
    config.write_text(WITHOUT_WEIGHTS.format(folder=str(folder)))
    wanted = [
        (RLHF, "sft"),
        (RLHF, "rm"),
        (JEPO, "", "--config.jepo.batch.sequences_per_micro_batch=32"),
        (str(config), ""),
    ]
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed (extra plan)")
    kept = {name: value for name, value in os.environ.items() if name not in FOR_CPUS}
    words = [sys.executable, "-c", LOWER, json.dumps(wanted)]
    done = subprocess.run(words, env=kept | ENVIRONMENT, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_programs_of_each_family(runs):
    sft, rm, jepo, _ = runs
    assert list(sft["programs"]) == list(rm["programs"]) == ["update"]
    assert list(jepo["programs"]) == ["load", "sampling", "scores", "reference", "update"]
    assert jepo["stage"] == "jepo" and jepo["stages"] == ["warmup", "habit", "jepo"]
    assert jepo["programs"]["update"]["held"] == ["parameters", "optimizer", "carried"]


def test_what_a_chip_holds(runs):
    sft, rm, jepo, _ = runs
    for each in (sft, rm, jepo):
        # On the axis "data" every chip has all: float32, and the two moments of Adam.
        assert each["resident"]["parameters"] == 4 * each["parameters"]
        assert each["resident"]["optimizer"] == pytest.approx(8 * each["parameters"], abs=64)
    # The policy at the start of the stage.
    assert jepo["resident"]["reference"] == 4 * jepo["parameters"]
    assert sft["resident"]["reference"] == rm["resident"]["reference"] == 0


def test_a_model_folder_without_weights_can_be_planned(runs):
    width, hidden, vocabulary = 64, 128, 512
    # Query and out 64 x 64, key and value 64 x 32, their norms of 16; an MLP; two norms.
    layer = 2 * width * 64 + 2 * width * 32 + 2 * 16 + 3 * width * hidden + 2 * width
    assert runs[-1]["parameters"] == vocabulary * width + 2 * layer + width


def test_useful_operations_of_demonstrations_and_of_a_reward_model(runs):
    sft, rm, *_ = runs
    # Two layers: query and out 64 x 64, key and value 64 x 32, an MLP of three 64 x 192.
    token = 2 * 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 192)

    def attended(first, count):  # queries at these places see up to themselves; 4 heads of 16
        return 4 * 64 * 2 * sum(range(first + 1, first + count + 1))

    logits = 2 * 64 * sft["workload"]["vocabulary"]
    row = 64 * (token + logits) + attended(0, 64)
    assert sft["useful"]["update"] == pytest.approx(3 * 32 * row, rel=1e-2)
    # 64 pairs of a prompt of 10 and two completions of 6, each in a row of its own; no logits.
    sequence = 16 * token + attended(0, 16)
    assert rm["useful"]["update"] == pytest.approx(3 * 128 * sequence)


def test_the_stage_that_prepares_no_other_is_the_default():
    stages = validate(load_config(RLHF))
    with pytest.raises(ValueError, match=r"Stage ppo asks a reward model.*ppo\.models\.reward"):
        chosen(RLHF, stages, "")
    assert chosen(RLHF, stages, "sft").name == "sft"
    assert chosen(RLHF, stages[:2], "").name == "sft"
    with pytest.raises(ValueError, match=r"stage 'rn'.*'rm'.*\(--stage\)"):
        chosen(RLHF, stages, "rn")
    stages = validate(load_config(EVOLUTION))
    name = stages[-1].name
    with pytest.raises(ValueError, match=rf"{name} \(evolution\).*\(--stage\)"):
        chosen(EVOLUTION, stages, name)


@pytest.mark.parametrize("name", ["sft", "rm"])
def test_batches_are_as_the_family_makes_them(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = load_config(RLHF, ("--config.scoring.workers=0",))
    context = build_context(config, validate(config), tmp_path)
    context.scorer.close()
    (stage,) = [each for each in context.stages if each.name == name]
    context = context.of(name)
    family = family_class(stage)(context, stage, None, 0)
    experience, _ = family.source.collect(Policy({}, 0, None), family.source.first_state(), 1)
    _, made = family.batches(None, experience, 1)
    _, planned = step_rows(context, stage, family, None, None)

    def shapes(batch):
        return {key: (np.shape(array), np.asarray(array).dtype) for key, array in batch.items()}

    assert shapes(planned) == shapes(made.batches[0])
    lengths = lengths_of(context, stage)
    assert lengths == {"sft": (1, 0, 64, 0), "rm": (2, 10, 6, 0)}[name]
    assert jax.tree.leaves(planned)
