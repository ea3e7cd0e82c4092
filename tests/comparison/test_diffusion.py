"""The table of diffusion policies: its configs, its decodings, its claims, what it refuses."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

from rljax.comparison.diffusion.methods import METHODS, TASKS, method_config, warmup_config
from rljax.comparison.diffusion.study import decodings, study_of
from rljax.comparison.from_start import run as runs
from rljax.comparison.from_start.study import UNTRAINED, WARMUP
from rljax.comparison.from_start.table import as_markdown, ended_with
from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.reporting.files import write_text_atomic
from rljax.training import judged
from rljax.training.run.context import build_context

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_config_of_the_same_size(task, method, tmp_path):
    config = complete(method_config(task, method, tmp_path, tmp_path, 3).to_dict())
    (stage,) = validate(config)
    assert config.seed == 3 and stage.steps == 100
    assert stage.batch.sequences_per_update == 128 and stage.batch.epochs_per_step == 1
    validate(complete(warmup_config(task, tmp_path).to_dict()))


@pytest.mark.parametrize("task", TASKS)
def test_a_policy_can_be_judged_under_every_decoding(task, tmp_path, monkeypatch):
    """Also in other blocks than those in which its objective scored samples: spg hides blocks."""

    class Built(judged.Evaluator):
        def __call__(self, params):
            return {"pass@1": 0.5}

    monkeypatch.setattr(judged, "Evaluator", Built)
    monkeypatch.setattr(judged, "load_start", lambda *given: ({}, {}))
    config = complete(method_config(task, "spg", tmp_path, tmp_path, 0).to_dict())
    config.model.init_from, config.scoring.workers = "", 0
    config.data.train_size = config.data.heldout_size = 8
    found = runs._decoded(study_of(task), config)
    assert found == {f"pass@1@{name}": 0.5 for name in decodings(task)}
    config.sampler.diffusion.block_tokens = 1
    with pytest.raises(ValueError, match="and the sampler fills blocks of 1"):
        build_context(config, validate(config), tmp_path)


def test_claims_are_of_what_is_run():
    study = study_of("sudoku")
    for claim in study.claims:
        assert {claim.method, claim.other} <= {WARMUP, *METHODS}
        assert claim.where in TASKS and claim.metric in study.measures


def test_what_was_not_measured_is_a_dash_and_decodings_have_a_table(tmp_path):
    study = study_of("countdown")
    rows = [
        '{"stage": "rl", "step": 1, "kind": "train", "degenerate_share": 0.25}',
        '{"stage": "rl", "step": 2, "kind": "train", "degenerate_share": 0.75}',
        '{"stage": "rl", "step": 2, "kind": "heldout", "accuracy_greedy": 0.5}',
    ]
    write_text_atomic(tmp_path / "metrics.jsonl", "\n".join(rows) + "\n")
    values = ended_with(study, tmp_path)
    assert values["accuracy_greedy"] == 0.5 and values["degenerate_share"] == 0.5
    assert values["pass@1"] != values["pass@1"]
    others = {f"pass@1@{name}": [0.125] * 5 for name in study.decodings}
    text = as_markdown(
        study, "countdown", {"spg": {k: [v] * 5 for k, v in values.items()} | others}
    )
    assert "| spg | – | 0.5 | 0.5 |" in text
    assert f"| spg |{' 0.125 |' * len(study.decodings)}" in text and "one token, any order" in text


def changed(*given):
    config = method_config(*given)
    config.rl.steps += 1
    return config


def test_a_run_is_evaluated_under_every_decoding(tmp_path, monkeypatch):
    judged = []

    def judge(config, stage=""):
        judged.append((config.model.init_from, config.sampler.diffusion.block_tokens))
        return {"pass@1": 0.5, "accuracy_greedy": 0.25, "other": 1.0}

    monkeypatch.setattr(runs, "judge", judge)
    monkeypatch.setattr(runs, "run", lambda config, folder: None)
    study = study_of("countdown")
    asked = runs.Asked("countdown", ("spg",), 1, tmp_path)
    for name in (WARMUP, "spg-0"):
        (tmp_path / name).mkdir()
        rows = (
            '{"stage": "rl", "step": 2, "kind": "heldout", "accuracy_greedy": 0.5, "pass@1": 1.0}'
        )
        (tmp_path / name / "metrics.jsonl").write_text(rows + "\n")
    text = runs.run_table(study, asked, lambda line: None)
    once = len(decodings("countdown"))
    assert len(judged) == 1 + 3 * once  # the untrained network has no run to read
    assert {start for start, _ in judged} == {
        "",
        str(tmp_path / "warmup/checkpoints/warmup"),
        str(tmp_path / "spg-0/checkpoints/rl"),
    }
    assert {block for _, block in judged} == {4, 8, 1}
    assert f"| {UNTRAINED} | 0.5 | 0.25 | – |" in text and "| spg | 1 | 0.5 | – |" in text
    runs.run_table(study, asked, lambda line: None)
    assert len(judged) == 1 + 3 * once
    table = json.loads((tmp_path / "table.json").read_text(), parse_constant=pytest.fail)
    assert table[UNTRAINED]["degenerate_share"] == ["nan"]  # JSON has no NaN
    longer = dataclasses.replace(study, method_config=changed)
    with pytest.raises(ValueError, match=r"runs of other configs of spg than .*\(--workdir\)"):
        runs.run_table(longer, asked, lambda line: None)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--task=sudok"], "Unknown task 'sudok'"),
        (["--task=sudoku", "--methods=sgp"], "Unknown method 'sgp'"),
    ],
)
def test_what_it_refuses(words, message, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("diffusion", ROOT / "launch/diffusion.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main([*words, f"--workdir={tmp_path / 'new'}"]) == 1
    assert message in capsys.readouterr().err
