"""Evaluation alone gives the figures of the run."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rljax.reporting.files import read_rows
from rljax.training import judged

ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).with_name("tiny_config.py")


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("evaluate_command", ROOT / "launch/evaluate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_is_evaluated_as_in_training(tiny_run, one_device_runs, command, tmp_path, capsys):
    made = tiny_run("grpo")
    rows = [r for r in read_rows(made.workdir / "metrics.jsonl") if r["kind"] == "heldout"]
    stage, last = rows[-1]["stage"], rows[-1]
    out, samples = tmp_path / "figures.json", tmp_path / "samples.jsonl"
    # Another seed in the config: that of the run counts.
    words = [f"--config={CONFIG}:grpo", "--config.evaluation.prompts_per_batch=4"]
    assert command.main([f"--checkpoint={made.workdir}", *words, f"--out={out}"]) == 0
    figures = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == figures
    assert figures["model"] == f"{made.workdir}/checkpoints/{stage}/{last['step']}"
    names = [name for name in last if name not in ("stage", "step", "kind")]
    assert {name: figures[name] for name in names} == {name: last[name] for name in names}

    words = [*words, f"--out={out}", f"--samples={samples}"]
    where = f"--checkpoint={made.workdir}/checkpoints/warmup"
    assert command.main([where, *words]) == 1
    assert "exists; --overwrite replaces it" in capsys.readouterr().err
    assert command.main([where, *words, "--overwrite"]) == 0
    figures = json.loads(out.read_text())
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    assert [line["id"] for line in lines] == list(range(8))
    right = [line["greedy"][0]["correct"] for line in lines]
    assert figures["accuracy_greedy"] == sum(right) / 8
    tokens = [line["greedy"][0]["tokens"] for line in lines]
    assert figures["completion_tokens"] == pytest.approx(sum(tokens) / 8)
    drawn = [one["correct"] for line in lines for one in line["samples"]]
    assert len(drawn) == 16 and figures["pass@1"] == pytest.approx(sum(drawn) / 16)
    assert lines[3]["problem"]["reference"] and lines[3]["prompt"].endswith("=")


def test_a_checkpoint_is_decoded_as_its_stage_samples(
    tiny_run, one_device_runs, command, monkeypatch, capsys
):
    made, asked = tiny_run("grpo"), []
    decoding_of = judged.decoding_of

    def of(evaluation, stages, index):
        asked.append(stages[index].name)
        return decoding_of(evaluation, stages, index)

    monkeypatch.setattr(judged, "decoding_of", of)
    words = [f"--config={CONFIG}:grpo", "--config.evaluation.samples_per_prompt=0"]
    for stage in ("warmup", "grpo"):
        assert command.main([f"--checkpoint={made.workdir}/checkpoints/{stage}", *words]) == 0
    assert asked == ["warmup", "grpo"] and capsys.readouterr().out


def test_a_sample_without_verdict_is_null_in_the_lines(command):
    lines, score = command.Lines(), np.array([1.0, np.nan], np.float32)
    samples = SimpleNamespace(
        samples_per_prompt=2,
        flat=lambda name: np.ones((2, 3), bool),
        records=[{"id": 0}],
        prompt_texts=["p"],
        texts=["a", "b"],
    )
    there = ~np.isnan(score)
    scores = SimpleNamespace(
        total=score, correct=there, judged=there, left_out=~there, failed=np.zeros(2, bool)
    )
    lines(samples, scores, 1)
    both = json.loads(lines.text(), parse_constant=pytest.fail)["greedy"]
    assert [(one["reward"], one["correct"]) for one in both] == [(1.0, True), (None, None)]


def test_what_a_run_says_of_itself_comes_along(tiny_run, tiny_folder):
    made = tiny_run("grpo")
    words = ["--config.evaluation.max_new_tokens=3"]
    config = judged.config_of_run(f"{CONFIG}:reinforce", made.workdir, words)
    assert config.tokenizer.special_tokens == ("<answer>", "</answer>")
    assert config.model.layers is None and config.model.lora.rank == 0
    assert config.seed == made.config.seed and config.evaluation.max_new_tokens == 3


@pytest.mark.parametrize(
    "words, message",
    [
        (["--checkpoint=nowhere", "--config={config}"], "No checkpoint in"),
        (["--model=nowhere", "--config={config}"], "it is no Hugging Face folder (--model)"),
        (["--model=x", "--checkpoint=y", "--config={config}"], "not allowed with"),
        (["--config={config}"], "--checkpoint --model is required"),
        (["--checkpoint=x"], "are required: --config"),
        (["--checkpoint=x", "--config=nowhere.py"], "No checkpoint in"),
        (["--model=x", "--config={config}", "--out=no/x"], "There is no folder 'no'"),
    ],
)
def test_what_is_wrong_is_one_line(tiny_folder, command, capsys, words, message):
    assert command.main([word.format(config=f"{CONFIG}:grpo") for word in words]) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: ") and message in text and text.count("\n") == 1
