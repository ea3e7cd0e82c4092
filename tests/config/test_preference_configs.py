"""Every preference method has a config that says nothing it need not say."""

import pathlib
import runpy

import pytest

from rljax.config.load import complete, load_config
from rljax.config.mesh import check_mesh
from rljax.config.validate import validate
from rljax.registry import METHODS

FILE = pathlib.Path(__file__).parents[2] / "configs/preference.py"
MODULE = runpy.run_path(str(FILE))
STAGE = dict(method="dpo", data=dict(path="pairs.jsonl"))


def test_every_method_has_its_entry_in_order():
    names = [name for name, row in METHODS.items() if row.family == "preference"]
    assert names == list(MODULE["METHODS"])


@pytest.mark.parametrize("name", MODULE["METHODS"])
def test_it_loads_and_validates_whole_and_shortened(name):
    for argument in (name, f"{name},smoke"):
        config = load_config(f"{FILE}:{argument}")
        (stage,) = validate(config)
        assert stage.objective.method.name == name and config.name == f"preference-{name}"
        check_mesh((stage,), 1, config.evaluation.prompts_per_batch)


@pytest.mark.parametrize("name", MODULE["METHODS"])
def test_no_line_says_what_holds_anyway(name):
    for section, found in MODULE["METHODS"][name].items():
        shared = MODULE["STAGE"][section]
        assert found != shared
        if section != "batch":
            assert not found.items() & shared.items()


def test_another_method_is_refused():
    with pytest.raises(ValueError, match="Unknown method 'grpo'.*here: dpo, "):
        load_config(f"{FILE}:grpo")


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
    ],
)
def test_parts_that_do_not_go_together(objective, message):
    stage = dict(STAGE, objective=objective)
    config = complete(dict(stages=("s",), s=stage, data=dict(tasks=(dict(name="chain_sum"),))))
    with pytest.raises(ValueError, match=message):
        validate(config)
