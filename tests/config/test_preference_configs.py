"""Every preference and unpaired method has a config that says nothing it need not say."""

import pathlib
import runpy

import pytest

from rljax.config.load import complete, load_config
from rljax.config.mesh import check_mesh
from rljax.config.validate import validate
from rljax.registry import METHODS

FOLDER = pathlib.Path(__file__).parents[2] / "configs"
MODULES = {name: runpy.run_path(str(FOLDER / f"{name}.py")) for name in ("preference", "unpaired")}
SHARED = MODULES["preference"]["STAGE"]
ENTRIES = [(file, name) for file, module in MODULES.items() for name in module["METHODS"]]
STAGE = dict(method="dpo", data=dict(path="pairs.jsonl"))


def test_every_method_has_its_entry_in_order():
    for file, module in MODULES.items():
        names = [name for name, row in METHODS.items() if row.family == file]
        assert names == list(module["METHODS"])


@pytest.mark.parametrize("file, name", ENTRIES)
def test_it_loads_and_validates_whole_and_shortened(file, name):
    for argument in (name, f"{name},smoke"):
        config = load_config(f"{FOLDER / file}.py:{argument}")
        (stage,) = validate(config)
        assert stage.objective.method.name == name and config.name == f"preference-{name}"
        check_mesh((stage,), 1, config.evaluation.prompts_per_batch)


@pytest.mark.parametrize("file, name", ENTRIES)
def test_no_line_says_what_holds_anyway(file, name):
    for section, found in MODULES[file]["METHODS"][name].items():
        assert found != SHARED[section]
        if section not in ("batch", "steps"):
            assert not found.items() & SHARED[section].items()


def test_another_method_is_refused():
    with pytest.raises(ValueError, match="Unknown method 'grpo'.*here: dpo, "):
        load_config(f"{FOLDER}/preference.py:grpo")


@pytest.mark.parametrize(
    "objective, message",
    [
        (dict(score="forward_kl", link="nca"), "score='forward_kl' is known up to a constant"),
        (
            dict(score="chi_squared", second_link="binary"),
            r"second_link='binary' reads more .*\(config.s.objective.score, config.s.objective.sec",
        ),
        (dict(score="log_likelihood", link="aot"), "link='aot' sorts log-ratios itself"),
        (dict(link="odds_ratio"), "it must be 'mean_log_likelihood'"),
        (dict(link="aot", pair_weight="wpo"), "pair_weight='wpo' weighs pairs, and link='aot'"),
        (
            dict(link="logistic_per_token", group_estimator="plugin"),
            "link='logistic_per_token' does not go with group_estimator='plugin'; it must be 'log",
        ),
        (
            dict(group_estimator="unbiased"),
            "link='logistic' does not go with group_estimator='unbiased'; it must be 'squared'",
        ),
        (
            dict(link="squared", second_link="squared", group_estimator="unbiased"),
            r"second_link='squared' does not go .*must be 'none' \(config.s.objective.second_link",
        ),
        (dict(link="contrastive", chosen_nll="token_mean"), "chosen_nll='token_mean' does not go"),
        (dict(link="contrastive", group_estimator="plugin"), "does not go with"),
        (dict(group_estimator="plugin", pair_weight="wpo"), "pair_weight='wpo' does not go"),
        (
            dict(group_estimator="plugin", score="length_desensitised"),
            "score='length_desensitised' does not go with .*; it must be 'log_ratio'",
        ),
    ],
)
def test_parts_that_do_not_go_together(objective, message):
    stage = dict(STAGE, objective=objective)
    config = complete(dict(stages=("s",), s=stage, data=dict(tasks=(dict(name="chain_sum"),))))
    with pytest.raises(ValueError, match=message):
        validate(config)


MOVING = dict(reference_update="moving", reference_update_steps=2)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(method="simpo"),
            "reference_update='moving' moves nothing: method 'simpo' has no ref",
        ),
        (
            dict(data=dict(path="x.jsonl", reference_cache="cache")),
            r"reference_cache='cache' keeps .*config.s.data.reference_cache, config.s.objective",
        ),
        (
            dict(models=dict(reference=dict(start_from="model"))),
            "reference_update='moving' begins with what the stage starts from; another model",
        ),
        (
            dict(steps=2),
            "reference_update_steps=2 in a stage of 2 steps: the reference would never",
        ),
        (
            dict(objective=MOVING | dict(reference_mixup=0.0)),
            r"reference_mixup must be in \(0, 1\], got 0.0",
        ),
    ],
)
def test_references_that_cannot_move(changes, message):
    section = dict(STAGE, objective=MOVING, steps=5) | changes
    config = complete(dict(stages=("s",), s=section, data=dict(tasks=(dict(name="chain_sum"),))))
    with pytest.raises(ValueError, match=message):
        validate(config)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(data=dict(source="sampled_pairs")),
            "'mdpo' reads groups of completions, which no rule finds among samples",
        ),
        (dict(batch=dict(samples_per_prompt=1)), "samples_per_prompt=1 with group_estimator='plug"),
        (
            dict(batch=dict(samples_per_prompt=3)),
            "sequences_per_micro_batch=32 must be a multiple of 3: the completions of a prompt are",
        ),
    ],
)
def test_rows_of_groups(changes, message):
    section = dict(method="mdpo", data=dict(path="x.jsonl")) | changes
    config = complete(dict(stages=("s",), s=section, data=dict(tasks=(dict(name="chain_sum"),))))
    with pytest.raises(ValueError, match=message):
        validate(config)


def test_a_baseline_of_mismatched_prompts_needs_two_of_them():
    section = dict(method="kto", data=dict(path="x.jsonl"), batch=dict(sequences_per_update=1))
    config = complete(dict(stages=("s",), s=section, data=dict(tasks=(dict(name="chain_sum"),))))
    with pytest.raises(ValueError, match="sequences_per_update=1 with link='kto'.*at least 2"):
        validate(config)


def test_labelled_steps_are_those_of_a_file():
    section = dict(method="step_kto", data=dict(source="sampled_labels"))
    config = complete(dict(stages=("s",), s=section, data=dict(tasks=(dict(name="chain_sum"),))))
    with pytest.raises(ValueError, match="'step_kto' reads labels of steps, which no rule"):
        validate(config)
