"""The table of latent chain of thought: its problems, its configs, its verdicts, a run."""

import importlib.util
import json
from pathlib import Path

import jax
import pytest

from rljax.comparison.from_start.table import as_markdown, claims_table
from rljax.comparison.latent.methods import METHODS, method_config, warmup_config
from rljax.comparison.latent.problems import (
    ANSWER_TOKENS,
    CHAIN_TOKENS,
    LONG_ANSWER,
    PROMPT_TOKENS,
    Problem,
    answer_of,
    completion_of,
    draw_problems,
    write_problems,
)
from rljax.comparison.latent.study import CLAIMS, LATENT
from rljax.comparison.orderings import Claim
from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.parallel.mesh import make_mesh
from rljax.training.run import context

ROOT = Path(__file__).parents[2]
# 7+5 is 3 modulo 9, and 3-5 is 7.
PROBLEM = Problem("7+5-5%9=", "7+5=3 3-5=7", 7, 9)


def test_a_problem_by_hand():
    assert answer_of(PROBLEM, "short") == "7"
    long = answer_of(PROBLEM, "long")
    assert long.startswith("7801234567801") and len(long) == LONG_ANSWER >= 32
    assert completion_of(PROBLEM, "short", worked=True) == "7+5=3 3-5=7<answer>7</answer>"
    assert completion_of(PROBLEM, "short", worked=False) == "<answer>7</answer>"


def test_problems_differ_fit_and_are_right():
    problems = list(draw_problems(0, 500))
    assert len({problem.prompt for problem in problems}) == 500
    for problem in problems:
        text, modulus = problem.prompt.removesuffix("=").split("%")
        value, results, rest = int(text[0]), [], text[1:]
        while rest:
            sign = 1 if rest[0] == "+" else -1
            after = (int(value) + sign * int(rest[1])) % int(modulus)
            results.append(f"{value}{rest[:2]}={after}")
            value, rest = after, rest[2:]
        assert problem.value == value
        assert problem.chain == " ".join(results)
        assert len(problem.prompt) <= PROMPT_TOKENS and len(problem.chain) <= CHAIN_TOKENS
    assert {len(problem.chain) for problem in problems} == {11, 17, CHAIN_TOKENS}


def test_files_hold_what_they_say(tmp_path):
    write_problems(tmp_path, "short", train=40, heldout=10)
    rows = {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in tmp_path.glob("*.jsonl")
    }
    assert {name: len(found) for name, found in rows.items()} == {
        "train": 40,
        "heldout": 10,
        "warmup": 40,
        "habit": 40,
        "direct": 40,
    }
    prompts = [row["prompt"] for row in rows["train"]]
    assert not set(prompts) & {row["prompt"] for row in rows["heldout"]}
    assert all(row["completion"].startswith("<answer>") for row in rows["direct"])
    bare = [row["completion"].startswith("<answer>") for row in rows["habit"]]
    assert not any(row["completion"].startswith("<answer>") for row in rows["warmup"])
    assert 20 < sum(bare) < 40
    hinted = [row for row in rows["warmup"] if "|" in row["prompt"]]
    assert len(hinted) == 10
    for row in hinted:
        answer, prompt = row["prompt"].split("|")
        assert f"<answer>{answer}</answer>" in row["completion"] and prompt in prompts


@pytest.mark.parametrize("task", ANSWER_TOKENS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_config_of_the_same_size(task, method, tmp_path):
    config = complete(method_config(task, method, tmp_path, tmp_path, 3).to_dict())
    stages = validate(config)
    assert config.seed == 3 and config.evaluation.answer_samples == 4
    rows = {stage.batch.sequences_per_update for stage in stages}
    # A chain's state is a row of its own; bare answers are packed.
    assert rows == {{"trice": 256, "sft_direct": 16}.get(method, 128)}
    assert sum(stage.steps for stage in stages) == 40
    drawn = {s.batch.prompts_per_step * s.batch.samples_per_prompt for s in stages if s.online}
    assert drawn <= {128}
    validate(complete(warmup_config(task, tmp_path).to_dict()))


def found(**values):
    return {
        name: {measure: numbers for measure in LATENT.measures} for name, numbers in values.items()
    }


@pytest.mark.parametrize(
    "ours, theirs, relation, expected",
    [
        ([2, 3, 2, 2, 4, 5], [1] * 6, ">", "6 of 6 | yes"),
        ([2, 3, 2, 2, 4, 5], [1] * 6, "<", "0 of 6 | no"),
        ([2, 3, 2, 2, 4, 5], [1, 4, 1, 1, 1, 1], ">", "5 of 6 | not distinguishable"),
        ([2, 3, 2, 2], [1] * 4, ">", "4 of 4 | not distinguishable (too few seeds (4))"),
    ],
)
def test_verdicts(ours, theirs, relation, expected):
    claim = Claim("a", relation, "b", "answer_nll", "somewhere", "short")
    line = claims_table([claim], found(a=ours, b=theirs))[-1]
    assert line.endswith(f"| {expected} |")


def test_the_table_names_the_claims_of_what_was_run():
    values = found(
        warmup=[1] * 7, jepo=[0.5, 0.25, 0.3, 0.4, 0.45, 0.3, 0.4], sft_direct=[0.75] * 7
    )
    text = as_markdown(LATENT, "long", values)
    assert text.startswith("long, 7 seeds")
    assert "| jepo | 0.4 (0.25 to 0.5) |" in text and "| sft_direct | 0.75 |" in text
    assert "| jepo < sft_direct, answer_nll | arXiv:2503.19618, Numina-proof |" in text
    assert "| 7 of 7 | yes |" in text and "probability" not in text
    for claim in CLAIMS:
        assert {claim.method, claim.other} <= {"warmup", *METHODS}
        assert claim.where in ANSWER_TOKENS and claim.metric in LATENT.measures


def test_the_readme_shows_what_was_found():
    found = json.loads((ROOT / "rljax/comparison/latent/short.json").read_text())
    assert as_markdown(LATENT, "short", found) in (ROOT / "rljax/comparison/README.md").read_text()


@pytest.fixture
def command():
    spec = importlib.util.spec_from_file_location("latent", ROOT / "launch/latent.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.mark.parametrize(
    "words, message",
    [
        (["--task=shrot"], "Unknown task 'shrot'"),
        (["--task=long", "--methods=jepoo"], "Unknown method 'jepoo'"),
    ],
)
def test_what_it_refuses(words, message, command, tmp_path, capsys):
    assert command([*words, f"--workdir={tmp_path / 'new'}"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--task=long", "--smoke"], ["--task=short"]])
def test_a_workdir_has_the_runs_of_one_task_and_size(words, command, tmp_path, capsys):
    (tmp_path / "asked.json").write_text('{"task": "short", "smoke": true}')
    assert command([*words, "--methods=jepo", "--seeds=1", f"--workdir={tmp_path}"]) == 1
    assert "holds runs of task='short', smoke=True" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_a_smoke_run_writes_the_table_and_goes_on(command, tmp_path, capsys, monkeypatch):
    def one_device(sizes, devices=None):
        return make_mesh(sizes, devices=(devices or jax.devices())[:1])

    monkeypatch.setattr(context, "make_mesh", one_device)
    words = ["--task=short", "--methods=jepo", "--seeds=1", "--smoke", f"--workdir={tmp_path}"]
    assert command(words) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert set(table) == {"warmup", "jepo"} and set(table["jepo"]) == set(LATENT.measures)
    assert "| jepo |" in (tmp_path / "table.md").read_text()
    capsys.readouterr()
    assert command(words) == 0  # nothing runs again
    assert "jepo-0:" not in capsys.readouterr().out
    asked = json.loads((tmp_path / "asked.json").read_text())
    assert (
        asked["task"] == "short" and asked["smoke"] and set(asked["configs"]) == {"warmup", "jepo"}
    )
