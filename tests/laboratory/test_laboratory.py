"""The laboratory: its references by hand, and that it notices an estimator that is wrong."""

import dataclasses
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.laboratory import latent, problem
from rljax.laboratory.draws import multisets
from rljax.laboratory.entries import all_entries
from rljax.laboratory.measure import keeps_its_claims, measure
from rljax.laboratory.picture import picture
from rljax.laboratory.report import as_markdown, bounds_of, find_rows, order_holds, row_of

ROOT = Path(__file__).parents[2]
ROOM = ROOT / "rljax/laboratory"


def entry_of(name, samples, baseline):
    return next(e for e in all_entries()[name] if (e.samples, e.baseline) == (samples, baseline))


def test_draws_are_counted_with_their_orders():
    draws, ways = multisets(3, 2)
    assert draws.tolist() == [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2], [2, 2]]
    assert ways.tolist() == [1, 2, 2, 1, 2, 1]
    assert multisets(4, 5)[1].sum() == 4**5


def test_the_problem_s_completions_add_up_to_its_likelihood():
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, problem.make_params(3))
        every = np.exp(problem.completion_logprobs(params).sum(axis=-1))
        truth = float(problem.log_likelihood(params))
        assert every.sum() == pytest.approx(1.0, abs=1e-12)
        assert np.log(every[problem.RIGHT].sum()) == pytest.approx(truth, abs=1e-12)
        # E[log mean exp] of one sample is the mean log-likelihood.
        chance = np.exp(problem.chain_logprobs(params))
        expected = (chance * np.asarray(problem.answer_logprobs(params))).sum()
        assert float(latent.expected_bound(params, 1)) == pytest.approx(expected, abs=1e-12)


def test_an_estimator_that_is_wrong_does_not_keep_its_claims():
    entry, params = entry_of("multi_sample", 2, "leave_one_out"), problem.make_params(0)

    def run(changed):
        return keeps_its_claims(changed, measure(changed, params, draws=4000, seed=0))

    assert run(entry)

    def shifted(params, draw):
        value, loss = entry.estimate(params, draw)
        return value + 0.05, loss

    def scaled(params, draw):
        value, loss = entry.estimate(params, draw)
        return value, 1.2 * loss

    assert not run(dataclasses.replace(entry, estimate=shifted))
    assert not run(dataclasses.replace(entry, estimate=scaled))
    # What is biased by design would be found out if it claimed otherwise.
    jepo = entry_of("jepo_raw", 4, "leave_one_out")
    assert run(jepo) and not run(dataclasses.replace(jepo, claims_gradient=True))


def test_an_order_that_is_wrong_is_noticed():
    rows = [
        dict(side="lower", estimator="multi_sample", samples=n, aim=aim, truth=-1.0)
        for n, aim in ((2, -1.5), (4, -1.2))
    ]
    rows.append(dict(side="upper", estimator="upper", samples=1, aim=-0.5, truth=-1.0))
    assert order_holds(rows)
    assert [value for _, value in bounds_of(rows)] == [-1.5, -1.2, -1.0, -0.5]
    rows[1]["aim"] = -0.9
    assert not order_holds(rows)
    rows[1]["aim"] = -1.6
    assert not order_holds(rows)


def test_some_lines_of_the_table_are_what_is_measured():
    """All of them: test_the_whole_table."""
    text, params = (ROOM / "README.md").read_text(), problem.make_params(0)
    for place in (("single_sample", 2, "leave_one_out"), ("exact_match", 2, "none")):
        entry = entry_of(*place)
        row = row_of(entry, measure(entry, params, draws=20_000, seed=0)) | {"side": ""}
        assert as_markdown([row]).splitlines()[2] in text.splitlines()
    for entries in all_entries().values():
        for entry in entries:
            assert f"\n| {entry.name} | {entry.samples} | {entry.baseline} |" in text


@pytest.mark.slow
def test_the_whole_table_and_the_picture():
    rows = find_rows()
    assert as_markdown(rows) in (ROOM / "README.md").read_text()
    assert picture(rows) == (ROOM / "bounds.svg").read_text()
    assert order_holds(rows) and all(row["kept"] for row in rows)


@pytest.fixture
def command():
    spec = importlib.util.spec_from_file_location("estimators", ROOT / "launch/estimators.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--bounds=multi_sampel"], "Unknown bound or estimator 'multi_sampel'"),
        (["--write", "--seed=1"], "--write is of all bounds"),
    ],
)
def test_what_it_refuses(arguments, message, command, capsys):
    assert command(arguments) == 1
    assert message in capsys.readouterr().err


def test_one_bound_as_json(command, tmp_path, capsys):
    import json

    path = tmp_path / "found.json"
    assert command(["--bounds=upper", f"--json={path}"]) == 0
    found = json.loads(path.read_text())
    assert found["order_holds"] and [row["samples"] for row in found["rows"]] == [1, 4]
    assert found["bounds"][-1]["bound"] == "upper"
    assert "Ordering holds: yes." in capsys.readouterr().out
