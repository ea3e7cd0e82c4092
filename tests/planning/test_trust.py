"""Predictions beside published figures: one factor, and its error left out."""

import importlib.util
import math
from pathlib import Path

import pytest

from rljax.planning.expected import SAMPLING, TRAINING
from rljax.planning.published import cases
from rljax.planning.trust import (
    Compared,
    as_table,
    by_terms,
    chosen,
    compare_decoding,
    compare_training,
    ratios,
    workload,
)

ROOT = Path(__file__).parents[2]


def test_one_factor_for_all_and_the_error_of_each_without_it():
    # Plans reach 1/2, 1/2 and 1/4 of what is published.
    found = ratios([Compared("a", 2, 1, ""), Compared("b", 4, 2, ""), Compared("c", 8, 2, "")])
    assert found.factor == pytest.approx((0.5 * 0.5 * 0.25) ** (1 / 3))
    assert found.fitted == pytest.approx([0.5 / found.factor] * 2 + [0.25 / found.factor])
    # Without c the factor is 1/2, which predicts half of it; without a it is the root of 1/8.
    assert found.left_out == pytest.approx([0.5 / math.sqrt(0.125)] * 2 + [0.5])
    assert found.worst == pytest.approx(0.5)


def test_a_single_case_is_fitted_and_cannot_be_left_out():
    found = ratios([Compared("a", 2, 1, "")])
    assert found.fitted == [1.0] and math.isnan(found.left_out[0])


def test_a_case_that_does_not_fit_is_said_and_not_counted():
    found = list(cases().values())[:2]
    done = {"compiles": True, "seconds": 1.5, "dominating": "links", "bytes_per_chip": 2**30}
    plans = {found[0].name: done, found[1].name: done | {"compiles": False}}
    compared, refused = compare_training(
        found, lambda case: {"phases": {"update": plans[case.name]}}
    )
    assert compared == [Compared(found[0].name, found[0].seconds, 1.5, "links")]
    assert len(refused) == 1 and refused[0].startswith(found[1].name)


def test_the_workload_of_a_case_is_counted_by_hand():
    work = workload(cases()["dense_16b_v5e_256"])
    # Rows of 2,048: matrices of the trunk and the output, and half of all pairs in 32 layers.
    matrices = 32 * (4 * 4096 * 8192 + 3 * 4096 * 28_672) + 4096 * 32_000
    pairs = 32 * 4 * 64 * 128 * 2048 * 2049 / 2
    assert work["update_flops"] == pytest.approx(256 * 3 * (6 * 2048 * 2 * matrices + 6 * pairs))
    assert work["parameters"] == matrices + 4096 * 32_000


def test_the_efficiencies_of_a_plan_are_those_of_the_published_cases():
    training = ratios([by_terms(case) for case in cases().values()])
    assert training.factor == pytest.approx(TRAINING, abs=5e-4)
    assert ratios(compare_decoding()).factor == pytest.approx(SAMPLING, abs=5e-4)
    # What the README says of both: left out, no case is further off.
    assert training.worst < 0.235 and ratios(compare_decoding()).worst < 0.235
    assert all(0.8 < ratio < 1.205 for ratio in training.fitted)


def test_the_table_shows_predicted_seconds():
    table = as_table("t", [Compared("a", 2, 1, "x"), Compared("b", 4, 1, "y")], "s", 1.0)
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["published, s"] == ["2", "4"]
    assert columns["predicted"] == ["2.828", "2.828"]
    assert columns["ratio"] == ["1.41", "0.71"]
    assert columns["ratio, left out"] == ["2.00", "0.50"]
    alone = as_table("t", [Compared("a", 2, 1, "x")], "s", 1.0)
    assert not any("nan" in str(cell) for column in alone.columns for cell in column.cells)
    assert alone.caption == "one efficiency 0.500"


def test_cases_are_chosen_by_name():
    assert chosen("all") == list(cases().values())
    names = list(cases())[:2]
    assert [case.name for case in chosen(",".join(names))] == names
    assert chosen("none") == []
    with pytest.raises(ValueError, match="Unknown published run 'x'"):
        chosen("x")


def test_trust_refuses_the_options_of_a_single_run(capsys):
    spec = importlib.util.spec_from_file_location("plan_command", ROOT / "launch/plan.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(["--trust", "--topology=v5e:2x2"]) == 1
    assert "--topology is of one run" in capsys.readouterr().err
    for word in ("--config.seed=1", "--ahead=1", "--tries=0"):
        assert module.main(["--trust=none", word]) == 1
        assert "is of one run" in capsys.readouterr().err
    assert module.main([]) == 1
    assert "give a run (--config)" in capsys.readouterr().err
