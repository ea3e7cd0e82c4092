"""Stages of every planned family: their programs for a slice, and the shapes of their batches."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from rljax.benchmarks.flops import forward_flops
from rljax.config.load import load_config
from rljax.config.validate import validate
from rljax.planning.batches import step_rows
from rljax.planning.compiling import ENVIRONMENT, FOR_CPUS
from rljax.planning.lengths import lengths_of
from rljax.planning.programs import chosen
from rljax.planning.sampling_programs import waiting_copies
from rljax.planning.useful import frozen_flops, useful_flops
from rljax.planning.workload import workload_of
from rljax.training.collect.experience import Experience, Policy
from rljax.training.collect.mixed import given_completions
from rljax.training.families.table import family_class
from rljax.training.run.context import build_context
from rljax.training.run.models import models_of

ROOT = Path(__file__).parents[2]
RLHF = str(ROOT / "configs/quickstart_rlhf.py")
JEPO = str(ROOT / "configs/quickstart_jepo.py")
DIFFUSION = str(ROOT / "configs/quickstart_diffusion.py")
DISTILLATION = str(ROOT / "configs/distillation.py")
PREFERENCE = str(ROOT / "configs/preference.py")
EVOLUTION = str(ROOT / "configs/evolution.py")
QUICKSTART = str(ROOT / "configs/quickstart.py")
HINTS = ("--config.data.hint_column=reference", "--config.grpo.data.max_context_tokens=8")
SCREEN = "--config.grpo.objective.screen_samples=2"
REFERENCE = (
    "--config.ppo.models.reward.reference_path=configs/examples/pairs.jsonl",
    "--config.ppo.models.reward.normalise=reference",
)

LOWER = """
import json, sys
AGAIN = {"prompt_values", "guided_sampling", "greedy_sampling", "further_sampling"}
AGAIN |= {"gradient_norms"}
import jax
from rljax.planning.chips import read_topology
from rljax.planning.programs import open_run
from rljax.planning.worker import described, measured

def lowered(config, stage, *overrides):
    run = open_run(config, overrides, read_topology("v5e:2x2"), stage)
    for name in {"scores", "reference", "reward", "update"} & run.programs.keys():
        with jax.set_mesh(run.mesh_of(name)):
            run.programs[name].lower()
    found = described(run)
    if run.context.network.config.causal or "sampling" not in run.programs:
        return found
    sampling = run.programs["sampling"]
    with jax.set_mesh(run.mesh_of("sampling")):
        compiled = sampling.lower().compile()
    return found | {"compiled": measured(compiled, run.mesh, sampling.assumed)}

def only_described(config, *overrides):
    run = open_run(config, overrides, read_topology("v5e:2x2"))
    for name in AGAIN & run.programs.keys():
        with jax.set_mesh(run.mesh_of(name)):
            run.programs[name].lower()
    return described(run)

wanted, others = json.loads(sys.argv[1])
print(json.dumps([
    [lowered(*words) for words in wanted], [only_described(*words) for words in others]
]))
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
def opened_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    (folder / "config.json").write_text(json.dumps(FOLDER))
    config = folder / "run.py"
    config.write_text(WITHOUT_WEIGHTS.format(folder=str(folder)))
    wanted = [
        (RLHF, "sft"),
        (RLHF, "rm"),
        (JEPO, "", "--config.jepo.batch.sequences_per_micro_batch=32"),
        (DIFFUSION, "", "--config.rl.objective.mask_draws=4", "--config.rl.method=tracerl"),
        (f"{DISTILLATION}:gkd", "", "--config.student.objective.on_policy_share=0.25"),
        (f"{DISTILLATION}:sequence_kd", ""),
        (RLHF, "ppo"),
        (str(config), ""),
    ]
    grpo = ("--config.grpo.batch.prompts_per_step=16", "--config.grpo.batch.samples_per_prompt=4")
    grpo += ("--config.grpo.batch.sequences_per_update=None",)
    others = [
        (QUICKSTART, *grpo, "--config.grpo.method=reinforce_ada"),
        (QUICKSTART, *grpo, "--config.grpo.method=pcl"),
        (QUICKSTART, *grpo, "--config.grpo.method=remax"),
        (QUICKSTART, *grpo, "--config.grpo.method=guide_grpo", *HINTS),
        (QUICKSTART, *grpo, "--config.grpo.method=scaf_grpo", *HINTS),
        (QUICKSTART, *grpo, "--config.grpo.method=speed", SCREEN),
        (QUICKSTART, *grpo, "--config.grpo.method=gvm_grpo"),
        (RLHF, *REFERENCE),
        (QUICKSTART, *grpo, "--config.grpo.method=tis", "--config.asynchronous.max_staleness=1"),
    ]
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed (extra plan)")
    kept = {name: value for name, value in os.environ.items() if name not in FOR_CPUS}
    words = [sys.executable, "-c", LOWER, json.dumps([wanted, others])]
    done = subprocess.run(words, env=kept | ENVIRONMENT, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def runs(opened_runs):
    return opened_runs[0]


def test_programs_of_steps_that_sample_again(opened_runs):
    ada, pcl, remax, guided, scaffolded, speed, gvm, normalised, ahead = opened_runs[1]
    plain = 16 * 4  # sequences of a call

    def drawn(run, name="sampling"):  # operations of a token that is sampled, all of a step's calls
        return run["programs"][name]["times"] * run["useful"][name]

    # Four rounds of eight samples at most, of which four are learned from.
    assert ada["programs"]["sampling"]["times"] == ada["workload"]["sampler_calls"] == 4
    assert ada["tokens"] == remax["tokens"] == plain * remax["workload"]["sampled"]
    prefill = 2 * drawn(remax) - drawn(ada) / 4  # twice as many samples read their prompts once
    assert 0 < prefill < 0.5 * drawn(remax)
    # One greedy completion beside four samples.
    assert list(remax["programs"]) == ["load", "sampling", "greedy_sampling", "update"]
    assert 4 * drawn(remax, "greedy_sampling") - drawn(remax) == pytest.approx(3 * prefill)
    # The critic reads the prompts of 4 x 16 candidates, and no sample before it learns.
    assert list(pcl["programs"]) == ["load", "sampling", "prompt_values", "update"]
    assert pcl["useful"]["prompt_values"] == pytest.approx(4 * prefill, rel=0.1)
    # As many samples again, behind prompts that are longer by their hints.
    assert guided["programs"]["guided_sampling"]["times"] == 1
    assert guided["tokens"] == 2 * remax["tokens"]
    assert drawn(remax) < drawn(guided, "guided_sampling") < 2 * drawn(remax)
    assert drawn(guided) == drawn(remax)
    # One sample behind each of twelve levels of help; rows have room for a hint.
    assert scaffolded["programs"]["guided_sampling"]["times"] == 12
    assert drawn(scaffolded) == drawn(remax)
    each = scaffolded["useful"]["guided_sampling"]
    assert drawn(remax, "greedy_sampling") < each < drawn(guided, "guided_sampling")
    assert scaffolded["workload"]["prompt"] == remax["workload"]["prompt"] + 8
    # Two samples of each prompt, then the other two of those that passed.
    first, rest = speed["useful"]["sampling"], speed["useful"]["further_sampling"]
    assert first == rest == pytest.approx(drawn(remax) / 2 + prefill / 2)
    # Pilot samples of all prompts, how steep they are, then 64 samples wherever they are needed.
    assert list(gvm["programs"])[1:4] == ["sampling", "further_sampling", "gradient_norms"]
    assert gvm["useful"]["further_sampling"] == pytest.approx(drawn(remax) + 48 / 16 * prefill)
    assert gvm["tokens"] == remax["tokens"] and gvm["workload"]["calls"] == 1.5
    assert ahead["programs"]["sampling"] == remax["programs"]["sampling"]
    # Statistics of reference completions are two numbers, taken before the first step.
    assert normalised["programs"].keys() == runs_of(opened_runs, "ppo")["programs"].keys()


def runs_of(opened_runs, stage):
    (found,) = [run for run in opened_runs[0] if run["stage"] == stage]
    return found


def test_programs_of_each_family(runs):
    sft, rm, jepo, *_ = runs
    assert list(sft["programs"]) == list(rm["programs"]) == ["update"]
    assert list(jepo["programs"]) == ["load", "sampling", "scores", "reference", "update"]
    assert jepo["stage"] == "jepo" and jepo["stages"] == ["warmup", "habit", "jepo"]
    assert jepo["programs"]["update"]["held"] == ["parameters", "optimizer", "carried"]


def test_what_a_chip_holds(runs):
    sft, rm, jepo, *_ = runs
    for each in (sft, rm, jepo):
        # On the axis "data" every chip has all: float32, and the two moments of Adam.
        assert each["resident"]["parameters"] == 4 * each["parameters"]
        assert each["resident"]["optimizer"] == pytest.approx(8 * each["parameters"], abs=64)
    # The policy at the start of the stage.
    assert jepo["resident"]["reference"] == 4 * jepo["parameters"]
    assert sft["resident"]["reference"] == rm["resident"]["reference"] == 0


def test_masked_diffusion_counts_all_its_passes(runs):
    run = runs[3]
    width, layers = 96, 3
    vocabulary = run["workload"]["vocabulary"] - 2  # rows that fill the table up
    # Four heads of 24: query, key, value and out 96 x 96, an MLP of three 96 x 288.
    assert run["workload"]["hidden"] == 288
    token = layers * 2 * (4 * 96 * 96 + 3 * 96 * 288)

    def row(predicted):  # 16 tokens see all of each other
        attention = layers * 4 * width * 16**2
        return 16 * token + attention + predicted * 2 * width * vocabulary

    # Two blocks of four positions, each in two steps; 128 rows. A pass for each of these steps.
    assert run["useful"]["sampling"] == pytest.approx(4 * 128 * row(4))
    assert run["useful"]["update"] == pytest.approx(3 * 4 * 128 * row(8))
    # The compiled loop counts as often as it runs: no less than what is needed, of a chip's part;
    # narrow heads and short rows are padded.
    compiled = run["compiled"]
    assert compiled["endless"] == []
    assert run["useful"]["sampling"] <= 4 * compiled["flops"] < 4 * run["useful"]["sampling"]
    passes = {each["kind"]: each["count"] for each in compiled["collectives"]}
    assert passes["all-reduce"] == 4  # whether all rows are done, after each step


def test_a_teacher_is_held_and_asked(runs):
    mixed, written = runs[4:6]
    assert mixed["resident"]["teacher"] == 4 * mixed["parameters"]
    assert mixed["programs"]["update"]["held"][-1] == "teacher"
    # A quarter of the steps samples; the others learn from demonstrations.
    assert mixed["programs"]["sampling"]["times"] == 0.25
    scored = mixed["useful"]["scores"]
    assert mixed["useful"]["update"] == pytest.approx((3 + 1) * scored)
    # Where it writes, it keeps the sampler's weights too, and its loss does not ask it.
    assert list(written["programs"]) == ["teacher_sampling", "update"]
    assert written["resident"]["teacher_sampling"] == written["resident"]["teacher"]
    assert written["programs"]["teacher_sampling"]["held"] == ["teacher_sampling"]
    assert written["useful"]["update"] == pytest.approx(3 * scored)


def test_a_reward_model_is_held_and_asked(runs):
    ppo = runs[6]
    assert "reward" in ppo["programs"] and ppo["programs"]["reward"]["held"] == ["reward"]
    # A head of one score in place of the vocabulary's, which embeds the tokens too.
    assert ppo["resident"]["reward"] == 4 * (ppo["parameters"] + 64)


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


def test_weights_wait_on_the_sampler_s_chips_only_if_they_come_directly():
    given = {"max_staleness": 3, "schedule": "fixed", "transfer": "direct"}
    assert waiting_copies(ConfigDict(given)) == 3
    assert waiting_copies(ConfigDict(given | {"max_staleness": 0})) == 1
    assert waiting_copies(ConfigDict(given | {"schedule": "latest"})) == 1
    for transfer in ("host", "storage"):
        assert waiting_copies(ConfigDict(given | {"transfer": transfer})) == 0


def test_the_stage_that_prepares_no_other_is_the_default():
    stages = validate(load_config(RLHF))
    assert chosen(RLHF, stages, "").name == "ppo"
    assert chosen(RLHF, stages, "sft").name == "sft"
    assert chosen(RLHF, stages[:2], "").name == "sft"
    with pytest.raises(ValueError, match=r"stage 'rn'.*'rm'.*\(--stage\)"):
        chosen(RLHF, stages, "rn")
    stages = validate(load_config(EVOLUTION))
    name = stages[-1].name
    with pytest.raises(ValueError, match=rf"{name} \(evolution\).*\(--stage\)"):
        chosen(EVOLUTION, stages, name)


def test_what_has_no_programs_without_samples_is_refused():
    stages = validate(load_config(QUICKSTART, ("--config.grpo.method=vineppo",)))
    with pytest.raises(ValueError, match=r"from inside of its comp.*config\.grpo\.objective"):
        chosen(QUICKSTART, stages, "grpo")
    stages = validate(load_config(RLHF))
    judged = dataclasses.replace(stages[-1], models={"judge": {"start_from": "rm"}})
    with pytest.raises(ValueError, match=r"ppo asks a judge model.*ppo\.models\.judge, --stage"):
        chosen(RLHF, [judged], "")


def opened(file, name, tmp_path, monkeypatch, *words):
    """A stage of a config on this machine: its family, with frozen models described only."""
    monkeypatch.chdir(ROOT)
    config = load_config(file, ("--config.scoring.workers=0", *words))
    context = build_context(config, validate(config), tmp_path)
    context.scorer.close()
    (index,) = [n for n, each in enumerate(context.stages) if each.name == name]
    stage, models = context.stages[index], models_of(context.network, context.stages, index)
    context = dataclasses.replace(context.of(name), models=models)
    return family_class(stage)(context, stage, None, 0)


def shapes(batch):
    return {key: (np.shape(array), np.asarray(array).dtype) for key, array in batch.items()}


@pytest.mark.parametrize(
    ("file", "name", "lengths"),
    [
        (RLHF, "sft", (1, 0, 64, 0, 0)),
        (RLHF, "rm", (2, 10, 6, 0, 10)),
        (DIFFUSION, "warmup", (1, 0, 16, 0, 0)),
        (f"{DISTILLATION}:salt", "student", (1, 10, 6, 0, 10)),
    ],
)
def test_batches_are_as_the_family_makes_them(file, name, lengths, tmp_path, monkeypatch):
    family = opened(file, name, tmp_path, monkeypatch)
    experience, _ = family.source.collect(Policy({}, 0, None), family.source.first_state(), 1)
    _, made = family.batches(None, experience, 1)
    _, planned = step_rows(family.context, family.stage, family, None, None)
    assert shapes(planned) == shapes(made.batches[0])
    assert lengths_of(family.context, family.stage) == lengths


def test_batches_of_a_teacher_that_is_told_more(tmp_path, monkeypatch):
    family = opened(f"{DISTILLATION}:opsd", "student", tmp_path, monkeypatch)
    context, stage = family.context, family.stage
    ids = range(stage.batch.prompts_per_step)
    records = [{**context.train_problems[number], "id": number} for number in ids]
    shown = given_completions(context, stage, records)
    _, made = family.batches(None, Experience(records, demonstrations=shown), 1)
    _, planned = step_rows(context, stage, family, None, None)
    assert shapes(planned) == shapes(made.batches[0])
    assert planned["told_tokens"].shape != planned["tokens"].shape


def test_batches_of_several_teachers_say_whose_each_row_is(tmp_path, monkeypatch):
    words = ("members=('model',)", "names=('adds','waits')", "column=source")
    words = [f"--config.student.models.teacher.{word}" for word in words]
    family = opened(f"{DISTILLATION}:word_kd", "student", tmp_path, monkeypatch, *words)
    context, stage = family.context, family.stage
    ids = range(stage.batch.prompts_per_step)
    records = [{**context.train_problems[n], "id": n, "source": "waits"} for n in ids]
    shown = given_completions(context, stage, records)
    _, made = family.batches(None, Experience(records, demonstrations=shown), 1)
    _, planned = step_rows(context, stage, family, None, None)
    assert shapes(planned) == shapes(made.batches[0]) and "teacher_ids" in planned


def test_a_teacher_that_follows_the_policy_is_held_and_asked(tmp_path, monkeypatch):
    family = opened(f"{DISTILLATION}:sdpo", "student", tmp_path, monkeypatch)
    context, stage = family.context, family.stage
    found = useful_flops(context, stage)["useful"]
    # It reads 18 tokens before each completion of 6, of which 8 are told; the policy reads 10.
    read = forward_flops(context.network.config, 16, 8, 18, 6, shared=stage.batch.share_prompts)
    assert found["update"] == pytest.approx(3 * found["scores"] + read)
    assert frozen_flops(context, stage) == pytest.approx(read)
    work = workload_of(context, stage)
    assert work["frozen_parameters"] == work["parameters"] and not work["reference"]


def test_a_mixed_teacher_is_asked_with_the_policy(tmp_path, monkeypatch):
    family = opened(f"{DISTILLATION}:sdpo_trust_region", "student", tmp_path, monkeypatch)
    context, stage = family.context, family.stage
    read = forward_flops(context.network.config, 16, 8, 18, 6, shared=stage.batch.share_prompts)
    assert frozen_flops(context, stage) == pytest.approx(2 * read)


def test_a_reference_that_follows_the_policy_is_held(tmp_path, monkeypatch):
    family = opened(f"{PREFERENCE}:tr_dpo", "preference", tmp_path, monkeypatch)
    work = workload_of(family.context, family.stage)
    assert work["frozen_parameters"] == work["parameters"] and not work["reference"]
    assert work["passes"] == 1 and work["frozen_flops"] == 0  # its pass is the reference's
