"""What a whole run leaves behind, and how often it compiles."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rljax.config.load import load_config
from rljax.objectives.metrics import SumCount
from rljax.reporting.files import read_rows
from rljax.reporting.glossary import METRICS
from rljax.training import loop
from rljax.training.step_log import mean_metrics

ROOT = Path(__file__).parents[2]
FILES = sorted(ROOT.joinpath("configs").rglob("*.py"))
# Those that need a model folder are run by test_pretrained_run.py and test_recipes.py; rlvr/ is
# read by test_rlvr_configs.py; those of pods are planned, not run.
CONFIGS = [
    path
    for path in FILES
    if "def get_config" in path.read_text()
    and not ("recipe_arguments" in path.read_text() and path.parent.name == "examples")
    and path.parent.name not in ("pods", "rlvr")
]
# One of every family runs on the newest Python and jax too.
SHORT = [
    ROOT / "configs" / name
    for name in ("quickstart.py", "quickstart_dpo.py", "quickstart_jepo.py", "evolution.py")
]
# The slow set runs these in another form: whole (test_quickstarts.py), or with a published model
# (test_recipes.py).
ELSEWHERE = [
    *(ROOT / "configs" / name for name in ("quickstart.py", "quickstart_dpo.py")),
    ROOT / "configs/quickstart_rlhf.py",
    *(ROOT / "configs/recipes" / name for name in ("llama3.py", "tulu3.py")),
]

# Lengths of the examples in place of a published model's.
LETTERS = ("--config.model.dtype=float32", "--config.data.max_prompt_tokens=10")
SHORT_ANSWERS = (
    *LETTERS,
    "--config.preference.data.max_completion_tokens=8",
    "--config.evaluation.max_new_tokens=8",
)
SHORT_ROWS = {
    "preference.py": SHORT_ANSWERS,
    "unpaired.py": SHORT_ANSWERS,
    "reward.py": (*LETTERS, "--config.reward.data.max_completion_tokens=6"),
}

# Program -> how often it is compiled: once for each jitted function of the run. `sample` is the
# greedy evaluation, the sampled one, and the stage's own; `prepared` is the sampler's copy of the
# weights, one for both evaluations; `step` is one for each stage.
PROGRAMS = {
    "grpo": {"sample": 3, "prepared": 2, "step": 2, "score": 1, "scores": 1, "compare": 1},
    "reinforce": {"sample": 3, "prepared": 2, "step": 1, "compare": 1},
    "dpo": {"sample": 3, "prepared": 2, "step": 2, "score": 1},
    # The last stage's program is called `update`, of policy and critic.
    "rlhf": {"sample": 3, "prepared": 2, "step": 2, "score": 1, "scores": 3, "compare": 1},
    "jepo": {"sample": 3, "prepared": 2, "step": 2, "score": 1, "evidence_advantages": 1},
    # Both rounds have the same programs; one of `scores` judges the reward model's held-out pairs.
    "online": {"sample": 3, "prepared": 2, "step": 3, "score": 1, "scores": 2},
}


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(name, marks=pytest.mark.contract if name == "grpo" else pytest.mark.slow)
        for name in PROGRAMS
    ],
)
def test_every_program_compiles_once(variant, tiny_run):
    counts = Counter(tiny_run(variant).compiled)
    names = {name for programs in PROGRAMS.values() for name in programs}
    found = {name: counts[f"jit({name})"] for name in names if counts[f"jit({name})"]}
    assert found == PROGRAMS[variant]


def test_rows_are_one_per_step_in_order(tiny_run):
    run = tiny_run("grpo")
    rows = read_rows(run.workdir / "metrics.jsonl")
    steps = {"warmup": 12, "grpo": 5}
    expected = []
    for stage, last in steps.items():
        for step in range(1, last + 1):
            expected.append((stage, step, "train"))
            if step % 3 == 0 or step == last:
                expected.append((stage, step, "heldout"))
    assert [(row["stage"], row["step"], row["kind"]) for row in rows] == expected


def test_a_run_of_one_stage_is_evaluated_before_it_starts(tiny_run):
    rows = read_rows(tiny_run("reinforce").workdir / "metrics.jsonl")
    assert (rows[0]["kind"], rows[0]["step"]) == ("heldout", 0)
    summary = tiny_run("reinforce").summary
    assert summary["heldout_accuracy_before"] == rows[0]["accuracy_greedy"]


def test_metrics_hold_what_the_report_draws(tiny_run):
    rows = read_rows(tiny_run("grpo").workdir / "metrics.jsonl")
    row = next(row for row in rows if row["stage"] == "grpo" and row["kind"] == "train")
    needed = {"loss", "reward", "accuracy", "entropy", "kl_to_start", "completion_tokens"}
    needed |= {"clip_share_low", "clip_share_high", "gradient_norm", "learning_rate"}
    needed |= {"scoring_failures", "updates_skipped", "truncated_share", "sampler_trainer_gap"}
    assert needed <= set(row)
    timing = read_rows(tiny_run("grpo").workdir / "timing.jsonl")
    row = next(row for row in timing if row["stage"] == "grpo")
    assert {"sampling", "scoring", "update", "tokens_per_second"} <= set(row)


@pytest.mark.parametrize("variant", PROGRAMS)
def test_every_logged_metric_is_explained(variant, tiny_run):
    assert not unexplained(tiny_run(variant).workdir)


def unexplained(workdir: Path) -> set[str]:
    """Metrics of a run that the glossary does not know, by themselves or by their pattern."""
    rows = read_rows(workdir / "metrics.jsonl")
    logged = {name for row in rows for name in row} - {"stage", "step", "kind"}
    pattern = re.compile(r"(pass|majority)@\d+|(reward|role_reward|episode)/.+|staleness_share/\d+")
    return {name for name in logged if name not in METRICS and not pattern.fullmatch(name)}


def test_the_workdir_is_complete(tiny_run):
    run = tiny_run("grpo")
    for name in ("config.json", "run.json", "summary.json", "report.html", "metrics.jsonl"):
        assert (run.workdir / name).is_file(), name
    assert sorted(path.name for path in (run.workdir / "rollouts").iterdir()) == [
        "grpo-000001.json",
        "grpo-000003.json",
        "grpo-000005.json",
    ]
    config = json.loads((run.workdir / "config.json").read_text())
    # Presets and defaults are spelled out.
    assert config["grpo"]["objective"]["kl_weight"] == 0.04
    assert config["grpo"]["batch"]["sequences_per_micro_batch"] == 16
    assert len(json.loads((run.workdir / "run.json").read_text())["config_hash"]) == 12
    assert "https://" not in (run.workdir / "report.html").read_text()
    assert "report: " in run.output and "held-out after grpo step 5" in run.output


def test_rollout_files_agree_with_the_metrics(tiny_run):
    run = tiny_run("grpo")
    rows = read_rows(run.workdir / "metrics.jsonl")
    for step in (1, 3, 5):
        record = json.loads((run.workdir / f"rollouts/grpo-{step:06d}.json").read_text())
        samples = [sample for prompt in record["prompts"] for sample in prompt["samples"]]
        assert len(samples) == 32
        row = next(r for r in rows if (r["stage"], r["step"]) == ("grpo", step))
        assert row["reward"] == pytest.approx(np.mean([s["reward"] for s in samples]))
        lengths = [len(sample["tokens"]) for sample in samples]
        assert row["completion_tokens"] == pytest.approx(np.mean(lengths))
        for sample in samples:
            for name in ("logprobs", "ratio", "clipped", "advantage"):
                assert len(sample[name]) == len(sample["tokens"])
            assert max(sample["logprobs"]) <= 0


def test_the_first_step_of_a_stage_starts_where_the_last_one_ended(tiny_run):
    """KL to the stage's start is zero before the first update, and not after some."""
    rows = read_rows(tiny_run("jepo").workdir / "metrics.jsonl")
    kl = [row["kl_to_start"] for row in rows if row["stage"] == "jepo" and row["kind"] == "train"]
    assert abs(kl[0]) < 1e-9 < kl[-1]


def test_metrics_of_updates_are_added_before_they_are_divided():
    def pair(total, count):
        return SumCount(np.float32(total), np.float32(count))

    updates = [
        {"loss": pair(1.0, 1), "share": pair(3, 4), "updates_skipped": pair(0, 1)},
        {"loss": pair(0.0, 0), "share": pair(0, 12), "updates_skipped": pair(1, 1)},
    ]
    assert mean_metrics(updates) == {"loss": 1.0, "share": 3 / 16, "updates_skipped": 1.0}
    only = mean_metrics(updates[1:])
    assert np.isnan(only["loss"]) and only["updates_skipped"] == 1.0


def marks(path: Path) -> list[pytest.MarkDecorator]:
    """Of a config file; those of `SHORT` are in two sets."""
    of_length = pytest.mark.long if path in ELSEWHERE else pytest.mark.slow
    return [of_length, *([pytest.mark.contract] * (path in SHORT))]


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=marks(path)) for path in CONFIGS],
    ids=lambda path: path.name,
)
def test_every_config_runs_when_shortened(path, tmp_path, one_device_runs, monkeypatch):
    """`:smoke` of each file, to the end."""
    monkeypatch.chdir(ROOT)
    config = load_config(f"{path}:smoke", SHORT_ROWS.get(path.name, ()))
    summary = loop.run(config, tmp_path)
    if path.name == "reward.py":  # a reward model answers no problem
        assert summary["stages"]["reward"]["heldout_reward_accuracy"] is not None
    else:
        assert summary["heldout_accuracy_after"] is not None
    assert (tmp_path / "report.html").is_file()
    assert not unexplained(tmp_path)
