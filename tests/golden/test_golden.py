"""Golden parity, and that the checker itself would notice a difference.

The vectors are read from ../shared/golden beside the repository where that exists, else from the
copies next to this file.
"""

import copy
import importlib.util
import json
import math
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared" / "golden"
GOLDEN = SHARED if any(SHARED.glob("*.json")) else HERE


def _load_check():
    spec = importlib.util.spec_from_file_location("golden_check", HERE / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check = _load_check()

# Cases that pass today; fewer would mean that a method got lost.
PASSING = {
    "async_areal": 13,
    "async_pipelinerl": 6,
    "async_prime_rl": 9,
    "best-of-n": 2,
    "bgpo": 8,
    "bleuberi": 12,
    "bnpo": 9,
    "canon": 66,
    "cgpo": 9,
    "constrained-rlhf": 2,
    "cov-entropy": 5,
    "d3s": 9,
    "deepsearch": 10,
    "disco": 22,
    "dler": 2,
    "dllm-rl-baselines": 6,
    "dllm-tasks": 6,
    "dpo-family": 45,
    "dump": 2,
    "dynamic-logits-fusion": 2,
    "dynamic-reward-weighting": 18,
    "eggroll": 9,
    "gain-rl": 4,
    "gedi": 3,
    "genarm": 3,
    "greso": 2,
    "gvm-raft": 5,
    "hapo": 20,
    "hpt": 14,
    "jepo": 9,
    "less": 1,
    "llamarl_aipo": 4,
    "lora": 2,
    "loss-reweight": 4,
    "lp-reg": 16,
    "ma-rlhf": 12,
    "mdlm": 14,
    "moe-aux-free": 2,
    "ngrpo": 12,
    "online-difficulty-filtering": 2,
    "path-not-taken": 3,
    "pcl": 5,
    "policy-gradient-advantages": 52,
    "policy-gradient-agg-kl-is": 64,
    "policy-gradient-losses": 42,
    "policy-gradient-trl": 34,
    "policy-gradient-tunix": 21,
    "ppo": 46,
    "ranking-accuracy": 5,
    "reasoning-gym": 15,
    "recap": 3,
    "reinforce-ada": 6,
    "reward-models": 8,
    "sft-variants": 6,
    "spectrum": 3,
    "spg": 8,
    "spg-bounds": 4,
    "spg-mask-stats": 2,
    "spo": 28,
    "steer": 16,
    "t-ppo": 3,
    "tl-training": 16,
    "tokenbuncher": 8,
    "trice": 8,
    "tulu3-dpo": 4,
    "two-stage-math": 2,
    "unpacking-dpo-ppo": 3,
    "vade": 2,
    "vapo": 4,
    "vas": 4,
    "verifiers": 2,
}


# One of every family: these run on the newest Python and jax too.
SHORT = ("policy-gradient-losses", "dpo-family", "sft-variants", "jepo", "eggroll")


@pytest.mark.parametrize(
    "slug",
    [pytest.param(s, marks=[pytest.mark.contract] * (s in SHORT)) for s in check.ADAPTERS],
)
def test_golden_vectors(slug):
    found, results = check.check_file(GOLDEN / f"{slug}.json")
    assert found == slug
    failed = [f"{result.name}: {result.reason}" for result in results if result.status == "failed"]
    assert not failed, "\n".join(failed)
    assert sum(result.status == "passed" for result in results) >= PASSING[slug]


def test_every_adapter_has_a_committed_copy():
    assert {path.stem for path in HERE.glob("*.json")} == set(check.ADAPTERS) == set(PASSING)


def write(folder, slug, cases, name=None):
    content = {"system": slug, "source": {}, "notes": "", "cases": cases}
    (folder / f"{name or slug}.json").write_text(json.dumps(content))


def cases_of(slug, *, missing=False):
    """The built cases of a committed file, or the ones that are not."""
    cases = json.loads((HERE / f"{slug}.json").read_text())["cases"]
    return [case for case in cases if (check.check_case(slug, case).status == "missing") == missing]


SFT = "sft-variants"
# A slug of which some cases are not built.
PART = "ma-rlhf"


def one_case():
    """A case with logits in and a loss out."""
    return next(case for case in cases_of(SFT) if "logits" in case["inputs"])


def test_exit_code_0_and_one_line_per_slug(tmp_path, capsys):
    write(tmp_path, SFT, [one_case()])
    assert check.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith(SFT)
    assert lines[0].split()[1:7] == ["passed", "1", "failed", "0", "missing", "0"]


@pytest.mark.parametrize("flag", [[], ["--allow-missing"]])
def test_a_broken_value_fails_with_and_without_the_flag(tmp_path, capsys, flag):
    case = one_case()
    case["outputs"]["loss"] *= 1 + 1e-4
    write(tmp_path, SFT, [case])
    assert check.main([str(tmp_path), *flag]) == 1
    out = capsys.readouterr().out
    assert "failed   1" in out and "loss: relative error" in out


def test_missing_cases_fail_unless_allowed(tmp_path, capsys):
    write(tmp_path, PART, cases_of(PART)[:1] + cases_of(PART, missing=True)[:2])
    write(tmp_path, "a-method-of-the-future", [{"name": "x", "inputs": {}, "outputs": {"y": 1.0}}])
    assert check.main([str(tmp_path)]) == 1
    assert check.main([str(tmp_path), "--allow-missing"]) == 0
    out = capsys.readouterr().out
    assert "passed   1  failed   0  missing   2" in out
    assert "passed   0  failed   0  missing   1" in out and "not built" not in out
    check.main([str(tmp_path), "--verbose"])
    assert "not built: " in capsys.readouterr().out


def test_every_output_field_counts(tmp_path):
    case = one_case()
    extra = copy.deepcopy(case)
    extra["outputs"]["a field that no adapter returns"] = 0.0
    assert check.check_case(SFT, extra).status == "failed"
    for field in case["outputs"]:
        broken = copy.deepcopy(case)
        broken["outputs"][field] = None
        assert check.check_case(SFT, broken).status == "failed"


def test_an_adapter_that_raises_is_a_failure_and_hides_nothing(tmp_path, capsys):
    case = one_case()
    broken = copy.deepcopy(case)
    del broken["inputs"]["logits"]
    write(tmp_path, SFT, [broken, case])
    assert check.main([str(tmp_path)]) == 1
    assert "passed   1  failed   1" in capsys.readouterr().out


def test_exit_code_2_without_a_readable_file(tmp_path, capsys):
    assert check.main([str(tmp_path)]) == 2
    (tmp_path / "broken.json").write_text("{")
    assert check.main([str(tmp_path)]) == 2
    assert "broken.json is no golden file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "ours, theirs, expected",
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.2], [1.0, 2.0], 0.1),
        ([1e-3, 2.0], [0.0, 2.0], 5e-3),  # small next to the field's largest
        ([1.0], [1.0, 2.0], math.inf),
        ([math.nan], [1.0], math.inf),
        ([1.0], [None], math.inf),
        ([None], [None], 0.0),
        ([math.inf, 1.0], [math.inf, 1.0], 0.0),
        ([math.inf], [1.0], math.inf),
        (None, None, 0.0),
        (1.0, None, math.inf),
        ({"a": 1.0}, {"a": 2.0}, 0.5),
        ({"a": 1.0}, {"b": 1.0}, math.inf),
        ({}, {}, 0.0),
    ],
)
def test_relative_error(ours, theirs, expected):
    assert check.relative_error(ours, theirs) == pytest.approx(expected)
