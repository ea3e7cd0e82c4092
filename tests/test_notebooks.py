"""The notebooks run from top to bottom, and find what their text says."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run_notebook(monkeypatch):
    """run_notebook("tour"): the names that its cells leave behind."""
    monkeypatch.chdir(ROOT)

    def run(name: str) -> dict:
        path = ROOT / f"notebooks/{name}.ipynb"
        names: dict = {}
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), str(path), "exec"), names)
        return names

    return run


def test_every_notebook_is_run_here():
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == {"tour", "results"}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_carry_no_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    assert not [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")]


def test_the_tour_runs(run_notebook):
    assert run_notebook("tour")["summary"]["method"] == "grpo"


@pytest.mark.slow
def test_the_results_can_be_read(run_notebook, capsys):
    names = run_notebook("results")
    assert names["summary"]["method"] == "grpo"
    assert names["gap"] < 1e-5
    assert {row["label"] for row in names["found"]["rows"]} == {"grpo", "rloo"}
    printed = capsys.readouterr().out
    assert "log-probability" in printed and "| rloo |" in printed
