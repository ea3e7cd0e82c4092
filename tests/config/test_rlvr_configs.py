"""Every method that samples and is scored has a config that says nothing it need not say."""

import ast
import pathlib
import runpy
import sys

import pytest

from rljax.config.load import apply_overrides, load_config
from rljax.config.mesh import check_mesh
from rljax.config.validate import validate
from rljax.registry import FAMILIES, METHODS, resolve_objective
from rljax.training import loop

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "configs/rlvr"
FILES = {path.stem: runpy.run_path(str(path)) for path in sorted(FOLDER.glob("*.py"))}
BASE = FILES.pop("base")
ENTRIES = {
    name: (file, values)
    for file, module in FILES.items()
    for name, values in module["METHODS"].items()
}
WITH_CONFIGS = ("policy_gradient", "evolution", "evidence", "posterior")


def test_every_method_has_one_config_in_the_file_of_its_kind():
    names = [name for module in FILES.values() for name in module["METHODS"]]
    assert len(names) == len(set(names))
    assert set(names) == {name for name, row in METHODS.items() if row.family in WITH_CONFIGS}
    for file, module in FILES.items():
        rows = runpy.run_path(str(ROOT / f"rljax/registry/methods/{file}.py"))["ROWS"]
        assert [row.name for row in rows] == list(module["METHODS"])


@pytest.mark.parametrize("name", ENTRIES)
def test_it_loads_and_validates_whole_and_shortened(name):
    path = FOLDER / f"{ENTRIES[name][0]}.py"
    for argument in (name, f"{name},smoke"):
        config = load_config(f"{path}:{argument}")
        (stage,) = validate(config)
        assert stage.objective.method.name == name and config.name == f"rlvr-{name}"
        assert config.evaluation.max_new_tokens == stage.max_new_tokens
        check_mesh((stage,), 1, config.evaluation.prompts_per_batch)


@pytest.mark.parametrize("name", ENTRIES)
def test_no_line_says_what_holds_anyway(name):
    values, shared = ENTRIES[name][1], BASE["STAGE"]
    row = resolve_objective(name, {})
    changed = resolve_objective(name, values.get("objective", {}))
    for field, value in values.get("objective", {}).items():
        # Fields that a changed part brings have that part's default, by no row.
        default = row.as_dict().get(field)
        if default is None and field in changed.values:
            others = {key: v for key, v in values["objective"].items() if key != field}
            default = resolve_objective(name, others).values[field]
        assert value != default, field
    for section, found in values.items():
        if section == "max_prompt_tokens":
            assert found != 1024
        elif section in ("sampling", "optimizer"):
            known = {**FAMILIES["policy_gradient"].reads.sampling, **shared[section]}
            for field, value in found.items():
                assert value != known.get(field), f"{section}.{field}"
        else:
            assert found != shared.get(section), section


def test_the_files_know_nothing_but_the_config_type():
    allowed = {"ml_collections", *sys.stdlib_module_names}
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert {name.split(".")[0] for name in names} <= allowed, path


def test_sizes_are_given_in_prompts():
    sizes = BASE["batch"](128, 8, update=64, demonstrations=1)
    assert sizes == {
        "prompts_per_step": 128,
        "samples_per_prompt": 8,
        "sequences_per_update": 64 * 9,
        "sequences_per_micro_batch": 8 * 9,
    }
    # No more prompts in a pass than in an update, and one update without a mini-batch.
    assert BASE["batch"](32, 4, update=2)["sequences_per_micro_batch"] == 8
    assert "sequences_per_update" not in BASE["batch"](128, 8)


def test_another_method_is_refused():
    with pytest.raises(ValueError, match="Unknown method 'gspo'.*here: reinforce, "):
        load_config(f"{FOLDER / 'baselines.py'}:gspo")


@pytest.mark.slow
def test_a_shortened_run_learns_from_the_folder_s_own_problems(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = apply_overrides(
        load_config(f"{FOLDER / 'baselines.py'}:dapo,smoke"),
        [
            *("--config.model.layers=1", "--config.model.width=32", "--config.scoring.workers=0"),
            *("--config.data.max_prompt_tokens=128", "--config.evaluation.samples_per_prompt=0"),
            *("--config.rl.sampling.max_new_tokens=4", "--config.evaluation.max_new_tokens=4"),
            *("--config.rl.objective.filter_rounds=1", "--config.rl.steps=1"),
        ],
    )
    assert loop.run(config, tmp_path)["heldout_accuracy_after"] is not None
