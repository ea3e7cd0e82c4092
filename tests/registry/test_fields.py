"""Fields of objectives: of which parts they are, their types, defaults, errors and texts."""

import inspect

import pytest

from rljax.objectives.advantages import BASELINE_UPDATES, group_zscore, update_ema_baseline
from rljax.objectives.parts import Field, fields_of
from rljax.objectives.surrogates import clipped
from rljax.registry import (
    FAMILIES,
    METHODS,
    field_doc,
    objective_fields,
    read_fields,
    resolve_objective,
)


@pytest.mark.parametrize("name", METHODS)
def test_rows_name_existing_parts_and_fields_that_are_read(name):
    method = METHODS[name]
    objective = resolve_objective(name, {})
    choices = FAMILIES[method.family].choices
    read = read_fields(method.family, objective.choices)
    for part, value in method.parts.items():
        if part in choices:
            assert value in choices[part]
        else:
            assert part in read, f"{part} of {name} is read by none of its parts"
    assert set(objective.choices) == set(choices)
    assert method.paper and method.summary
    for choice in choices:
        if choices[choice][objective.choices[choice]] is not None:
            assert callable(objective.part(choice))


def test_fields_come_from_signatures():
    assert fields_of(group_zscore) == {"advantage_epsilon": Field(1e-6, float)}
    # An optional number counts as a number.
    assert fields_of(clipped)["dual_clip"] == Field(None, float)
    for family, description in FAMILIES.items():
        known = objective_fields(family)
        for table in description.choices.values():
            for function in filter(None, table.values()):
                names = [
                    name
                    for name, parameter in inspect.signature(function).parameters.items()
                    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
                ]
                assert set(names) <= set(known)


def test_fields_of_one_name_have_one_type():
    types = {}
    for family in FAMILIES:
        for name, field in objective_fields(family).items():
            assert types.setdefault(name, field.type) is field.type, name


def test_a_baseline_brings_the_fields_of_its_update():
    assert BASELINE_UPDATES == {"ema": update_ema_baseline}
    choices = resolve_objective("reinforce", {}).choices
    assert "ema_decay" in read_fields("policy_gradient", choices)
    choices = {**choices, "advantage": "batch_mean"}
    assert "ema_decay" not in read_fields("policy_gradient", choices)


def test_a_changed_part_takes_its_own_defaults():
    objective = resolve_objective("grpo", {"kl_placement": "none"})
    assert "kl_weight" not in objective.values and objective.kl is None
    assert not objective.needs_reference
    objective = resolve_objective("dapo", {"kl_placement": "loss", "kl_weight": 0.5})
    assert objective.values["kl_weight"] == 0.5 and objective.needs_reference
    assert objective.values["clip_high"] == 0.28


def test_an_override_of_none_is_not_set():
    assert resolve_objective("grpo", {"clip_low": None}).values["clip_low"] == 0.2


@pytest.mark.parametrize(
    "method, overrides, message",
    [
        ("grpoo", {}, r"Unknown method 'grpoo'.*\(config.s.method\). Did you mean 'grpo'"),
        ("grpo", {"advantage": "ema2"}, r"config.s.objective.advantage\). Did you mean 'ema'"),
        ("grpo", {"clip_lo": 0.1}, r"Unknown field of the policy_gradient family 'clip_lo'"),
        ("rloo", {"clip_low": 0.1}, r"clip_low=0.1 is never read with .*fields that are: "),
        ("grpo", {"kl_estimator": "k4"}, r"Unknown kl_estimator 'k4'"),
        ("ipo", {"label_smoothing": 0.1}, r"label_smoothing=0.1 is never read with .*squared_per"),
        (
            "dpo",
            {"second_weight": 0.5},
            r"second_weight=0.5 is never read with",
        ),
        ("dpo", {"beta": -1.0}, r"beta must be > 0, got -1.0 \(config.s.objective.beta\)"),
    ],
)
def test_errors_name_what_is_allowed_and_where(method, overrides, message):
    with pytest.raises(ValueError, match=message):
        resolve_objective(method, overrides, "config.s")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_field_is_documented(family):
    missing = [name for name in objective_fields(family) if not field_doc(family, name)]
    assert not missing
