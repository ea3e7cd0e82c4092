"""The benchmark command: what its report holds, and what it says to wrong arguments."""

import importlib.util
import json
from pathlib import Path

import jax
import pytest

from rljax.benchmarks import workload
from rljax.parallel.mesh import make_mesh

ROOT = Path(__file__).parents[2]
SIZES = ["--prompts=2", "--samples=3", "--prompt-tokens=5", "--new-tokens=4", "--steps=2"]
TINY = [f"--config.model.{word}" for word in ("layers=1", "width=16", "mlp_width=8", "heads=2")]
TINY += [f"--config.model.{word}" for word in ("kv_heads=1", "head_dim=8", "vocab_size=40")]


@pytest.fixture
def bench(monkeypatch):
    """launch/bench.py as a module, on one fake device."""
    spec = importlib.util.spec_from_file_location("bench_command", ROOT / "launch/bench.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def one(sizes):
        return make_mesh(sizes, devices=jax.devices()[:1])

    monkeypatch.setattr(workload, "make_mesh", one)
    return module


def test_the_report_of_a_step(bench, tmp_path, capsys):
    bench.main(["step", *SIZES, *TINY, f"--json={tmp_path / 'step.json'}"])
    report = json.loads((tmp_path / "step.json").read_text())
    seconds, split = report["seconds_per_step"], report["split"]
    assert len(report["seconds_of_each_step"]) == 2
    assert seconds == pytest.approx(sum(report["seconds_of_each_step"]) / 2)
    assert set(split) == {"sample", "score", "update", "other"}
    assert 0 < sum(split.values()) == pytest.approx(seconds, rel=1e-6)  # medians of two are means
    assert report["new_tokens_per_second"] == pytest.approx(2 * 3 * 4 / seconds)
    assert report["batch"]["share_prompts"] is True
    assert report["model"]["width"] == 16 and report["parameters"] > 0
    flops = report["flops"]
    assert flops["step"] == flops["sample"] + flops["update"]
    assert report["flops_per_second"]["step"] == pytest.approx(flops["step"] / seconds)
    assert report["machine"]["matmul_flops_per_second"] > 0
    assert report["machine"]["jax"] == jax.__version__
    assert report["memory"]["update_temporary_gib"] > 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("sample", "update", "GFLOP/s", "2 prompts x 3 samples"))


def test_the_report_of_updates_compares_both_layouts(bench, tmp_path, capsys):
    bench.main(["update", *SIZES, *TINY, f"--json={tmp_path / 'update.json'}"])
    report = json.loads((tmp_path / "update.json").read_text())
    shared, separate = report["layouts"]["shared"], report["layouts"]["separate"]
    assert shared["flops"] < separate["flops"]
    ratio = separate["seconds"] / shared["seconds"]
    assert report["shared_is_faster_by"] == pytest.approx(ratio)
    assert "separate" in capsys.readouterr().out


def test_the_report_of_a_population_has_the_ratios_of_one_run(bench, tmp_path, capsys):
    bench.main(["evolution", *SIZES, *TINY, f"--json={tmp_path / 'evolution.json'}"])
    report = json.loads((tmp_path / "evolution.json").read_text())
    assert report["members"] == 6
    for kind, names in (("forward", ("plain", "low_rank", "explicit")), ("sample", ("low_rank",))):
        seconds = report[f"{kind}_seconds"]
        for name in names:
            expected = seconds[name] / seconds["plain"]
            assert report["ratios"][f"{kind}, {name}"] == pytest.approx(expected)
    assert "sample, low_rank" in capsys.readouterr().out


def test_the_report_of_batch_sizes(bench, tmp_path, capsys):
    words = ("--tail=0.5", "--candidates=3", f"--json={tmp_path / 'sizes.json'}")
    bench.main(["batch-size", *SIZES, *TINY, *words])
    report = json.loads((tmp_path / "sizes.json").read_text())
    assert [size["samples"] for size in report["sizes"]] == [3, 6]
    assert report["candidates"] == 3
    for size in report["sizes"]:
        assert size["value_share"] == pytest.approx(size["value_seconds"] / size["seconds"])
        assert size["value_seconds"] > 0 < size["tokens_per_second"]
    fixed, each = report["fixed_seconds"], report["seconds_per_sample"]
    assert report["knee"] == (pytest.approx(fixed / each) if each else None)
    printed = capsys.readouterr().out
    assert "sampling takes about" in printed and "of sampling" in printed


@pytest.mark.long
def test_the_report_of_a_run_ahead(bench, tmp_path, capsys):
    bench.main(["ahead", "--steps=40", f"--json={tmp_path / 'ahead.json'}"])
    report = json.loads((tmp_path / "ahead.json").read_text())
    assert report["ratio"] > 0
    assert report["runs"]["ahead"]["staleness"] == {"0": 1 / 40, "1": 39 / 40}
    assert all(len(run["rewards"]) == 40 for run in report["runs"].values())
    assert "ahead / in turn" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "the following arguments are required: benchmark"),
        (["sampel"], "benchmark invalid choice: 'sampel'"),
        (["step", "--prompts"], "--prompts expected one argument"),
        (["step", "more"], "Unknown argument 'more'"),
        (["step", "--candidates=2"], "--candidates is read by batch-size only"),
        (["step", "--json="], "--json needs the name of a file"),
        (["step", "--prompts=x"], "--prompts must be a whole number >= 1, got 'x' (--prompts)"),
        (["step", "--prompts=0"], "--prompts must be a whole number >= 1, got '0'"),
        (["step", "--promts=8"], "Did you mean '--prompts'"),
        (["step", "--json=nowhere/else/x.json"], "There is no folder 'nowhere/else'"),
        (["step", "--rounds=2"], "--peer and --rounds are read by sample and dpo only"),
        (["dpo", "--samples=2"], "--samples is not read by dpo: a pair has two sides"),
        (["step", "--staleness=2"], "--staleness is read by ahead only"),
        (["ahead", "--preset=qwen3_0_6b"], "are not read by ahead"),
        (["step", "--preset=gpt9"], "gpt9"),
        (["step", "--samples=1"], "at least 2 are needed"),
        (["step", "--config.model.layer=2"], "Did you mean 'layers'"),
        (["update", "--config.grpo.batch.sequences_per_micro_batch=3"], "does not divide"),
    ],
)
def test_wrong_arguments_give_one_message(bench, capsys, words, message):
    assert bench.main(words) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: ") and message in text and text.count("\n") == 1


def test_the_report_of_a_server(bench, tmp_path, capsys):
    """Four clients, eight requests, beside the generator on the same ones."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    words = ["--prompts=4", "--prompt-tokens=5", "--new-tokens=4", "--steps=1", *TINY[:-1]]
    out = tmp_path / "serve.json"
    assert bench.main(["serve", *words, "--config.model.vocab_size=259", f"--json={out}"]) == 0
    report = json.loads(out.read_text())
    rates = report["tokens_per_second"]
    assert report["requests"] == 8
    assert report["ratios"] == [pytest.approx(rates["server"] / rates["generator"])]
    for times in report["latency"].values():
        assert 0 <= times["p50"] <= times["p90"] <= times["p99"]
    assert report["latency"]["first_token"]["p50"] < report["latency"]["request"]["p50"]
    assert report["cpu_seconds"]["server"] > 0
    assert "of its rate" in capsys.readouterr().out


def test_a_request_to_a_server_has_one_sample(bench, capsys):
    assert bench.main(["serve", "--samples=2"]) == 1
    assert "--samples is not read by serve" in capsys.readouterr().err
