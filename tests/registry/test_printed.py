"""What launch/methods.py prints: tables, a family, a method, a card."""

import importlib.util
from pathlib import Path

import pytest

from rljax.registry import (
    METHODS,
    field_doc,
    method_table,
    resolve_objective,
)
from rljax.registry.table import kinds

ROOT = Path(__file__).parents[2]


def load_methods():
    spec = importlib.util.spec_from_file_location("methods", ROOT / "launch/methods.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def printed(capsys, *arguments):
    load_methods().main([*arguments])
    return capsys.readouterr().out


def test_the_printed_table_holds_every_method(capsys):
    text = printed(capsys)
    assert all(row["method"] in text for row in method_table())


def test_a_family_is_printed_alone(capsys):
    text = printed(capsys, "--family=evidence")
    assert "jepo_single" in text and "grpo" not in text
    markdown = printed(capsys, "--family=evidence", "--markdown")
    assert "| [jepo_single](cards/jepo_single.md) |" in markdown and "grpo" not in markdown


@pytest.mark.parametrize("name", ["dapo", "spo_tree", "dpo", "eggroll"])
def test_a_method_is_printed_with_all_of_its_fields(capsys, name):
    text = printed(capsys, f"--method={name}")
    objective = resolve_objective(name, {})
    assert objective.method.summary in text and objective.method.paper in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    for field, value in objective.as_dict().items():
        assert ("none" if value is None else str(value)) in lines[field]
        assert field_doc(objective.family, field).split()[0] in lines[field]


def test_a_method_s_own_values_are_marked_and_options_named(capsys):
    text = printed(capsys, "--method=dapo")
    (high,) = [line for line in text.splitlines() if line.split()[:1] == ["clip_high"]]
    (low,) = [line for line in text.splitlines() if line.split()[:1] == ["clip_low"]]
    assert "0.28 *" in high and "*" not in low
    assert "[none, loss, reward]" in text  # of kl_placement
    assert "--config=configs/rlvr/baselines.py:dapo" in text
    assert "--config=configs/preference.py:dpo" in printed(capsys, "--method=dpo")
    assert "config  " not in printed(capsys, "--method=sft").partition("change")[0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--html"], "Unknown argument '--html'; known: '--card', '--family'"),
        (["--markdown=1"], "--markdown ignored explicit argument '1'"),
        (["--method="], "Unknown method ''"),
        (["--method=gsppo"], "Did you mean 'gspo'"),
        (["--family=evolutoin"], "Did you mean 'evolution'"),
        (["--method=grpo", "--markdown"], "--method prints one method"),
    ],
)
def test_arguments_that_are_none(arguments, message, capsys):
    assert load_methods().main(arguments) == 1
    assert message in capsys.readouterr().err


def test_a_row_says_what_the_others_of_its_kind_do_not():
    (kind,) = [kind for kind in kinds("policy_gradient") if kind.file == "baselines"]
    common = {"ratio": "token", "surrogate": "clipped", "aggregation": "token_mean"}
    assert kind.common == common
    parts = {row["method"]: row["parts"] for row in kind.rows}
    assert parts["lite_ppo"] == "advantage=group_mean_batch_deviation"
    assert "ratio=none, surrogate=policy_gradient" in parts["gpg"]
    # None is a value as well.
    (kind,) = [kind for kind in kinds("policy_gradient") if kind.file == "token_level"]
    assert "disco_temperature=None" in {r["method"]: r["parts"] for r in kind.rows}["disco_b"]


def test_every_method_stands_in_one_kind_under_its_family():
    names = [(row["method"], kind.family) for kind in kinds() for row in kind.rows]
    assert sorted(names) == sorted((row.name, row.family) for row in METHODS.values())
    assert [name for name, _ in names] == list(METHODS)


def test_bars_in_a_text_do_not_end_a_cell(capsys):
    rows = [line for line in printed(capsys, "--markdown").splitlines() if line.startswith("| ")]
    assert {len(line.replace(r"\|", "").split("|")) for line in rows} == {7}


def test_a_card_is_printed_for_one_method(capsys):
    assert printed(capsys, "--method=dapo", "--card").startswith("# dapo\n")
    assert load_methods().main(["--card"]) == 1
    assert "--card prints the card of one method" in capsys.readouterr().err
