"""Several comparisons in two short tables."""

import numpy as np
import pytest

from rljax.comparison import Claim, summarise, write_comparison

EIGHT = np.linspace(0.3, 0.6, 8)


def test_one_column_for_each_folder_and_a_dash_where_nothing_is_known(make_runs, tmp_path):
    base, better = make_runs("grpo", EIGHT), make_runs("dapo", EIGHT + 0.3)
    claim = Claim("dapo", ">", "grpo", "accuracy", "somewhere")
    write_comparison(tmp_path / "sort", [base, better], "grpo", 0.8, [claim])
    write_comparison(tmp_path / "edit", [base, make_runs("opo", EIGHT - 0.2)], "grpo", 0.8)
    methods, claims = summarise([tmp_path / "sort", tmp_path / "edit"]).split("\n\n")
    rows = {line.split(" | ")[0].strip("| "): line for line in methods.splitlines()[2:]}
    assert set(rows) == {"grpo", "dapo", "opo"}
    assert "0.750 [" in rows["dapo"] and rows["dapo"].endswith("], better | - |")
    assert rows["opo"].split(" | ")[1] == "-" and rows["opo"].endswith("], worse |")
    assert "baseline" in rows["grpo"]
    assert claims.splitlines()[2] == "| dapo > grpo | accuracy | somewhere | yes | - |"


def test_an_unfinished_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"no finished comparison: .*\(--summary\)"):
        summarise([tmp_path])
