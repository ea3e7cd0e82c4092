"""Final figures are those of the run's files."""

import json

from rljax.config.validate import validate
from rljax.reporting.files import read_rows
from rljax.training.run.summary import summarise


def test_figures_of_a_two_stage_run(tiny_run):
    run = tiny_run("grpo")
    rows = read_rows(run.workdir / "metrics.jsonl")
    heldout = {(r["stage"], r["step"]): r for r in rows if r["kind"] == "heldout"}
    assert run.summary["heldout_accuracy_before"] == heldout["warmup", 12]["accuracy_greedy"]
    assert run.summary["heldout_accuracy_after"] == heldout["grpo", 5]["accuracy_greedy"]
    assert run.summary["heldout_pass@2"] == heldout["grpo", 5]["pass@2"]
    assert run.summary["wall_seconds"] > 0
    assert (run.summary["method"], run.summary["seed"]) == ("grpo", 0)
    assert run.summary["stages"]["warmup"]["steps"] == 12
    last = [r for r in rows if r["kind"] == "train"][-1]
    assert run.summary["stages"]["grpo"]["reward"] == last["reward"]
    assert {"sampling_seconds", "scoring_seconds", "update_seconds"} <= set(
        run.summary["stages"]["grpo"]
    )
    assert json.loads((run.workdir / "summary.json").read_text()) == run.summary


def test_the_best_checkpoint_is_that_of_all_stages_with_its_value(tiny_run):
    """Saved every 2 steps, evaluated every 3, both at the end of a stage."""
    run = tiny_run("grpo")
    rows = [r for r in read_rows(run.workdir / "metrics.jsonl") if r["kind"] == "heldout"]
    judged = {(r["stage"], r["step"]): r["accuracy_greedy"] for r in rows}
    saved = {place: judged[place] for place in (("warmup", 6), ("warmup", 12), ("grpo", 5))}
    assert run.summary["best_checkpoint_value"] == max(saved.values())
    stage, step = run.summary["best_checkpoint"].split("/")[-2:]
    assert saved[stage, int(step)] == max(saved.values())
    assert (run.workdir / "checkpoints" / stage / step / "state").is_dir()


def test_a_run_without_evaluation_has_no_accuracy(tmp_path, tiny_config):
    (tmp_path / "metrics.jsonl").write_text("")
    stages = validate(tiny_config("grpo"))
    summary = summarise(
        tmp_path, stages, seed=3, goodput={"seconds": {"update": 1.0, "other": 0.5}}
    )
    assert summary["heldout_accuracy_before"] is None
    assert summary["heldout_accuracy_after"] is None
    assert (summary["seed"], summary["wall_seconds"]) == (3, 1.5)
    assert summary["stages"] == {"warmup": {"steps": 0}, "grpo": {"steps": 0}}
