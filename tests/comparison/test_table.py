"""The tables: nothing lost in the CSV, nothing broken in the markdown."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from rljax.comparison import Claim, results, table
from rljax.comparison.statistics import Estimate


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def rows(make_runs):
    final = np.linspace(0.3, 0.7, 8) + 1e-17
    return results.find_rows(
        [make_runs("grpo", final), make_runs("dapo", final + 1 / 7, point={"clip|high": 0.28})],
        "grpo",
        0.6,
    )


def test_csv_holds_every_number_in_full(rows):
    first, second = read(table.to_csv([table.flat_row(row) for row in rows]))
    assert first["label"] == "dapo clip|high=0.28" and second["baseline"] == "True"
    assert float(first["accuracy_median [share]"]) == rows[0].accuracy.value
    assert float(first["difference_low [share]"]) == rows[0].difference.low
    assert float(first["end_entropy_high [nats]"]) == rows[0].logged["entropy"].high
    assert second["difference [share]"] == "" == second["paired"]
    # 2 of 8 seeds of the baseline end at 0.6 or above: no median, but a bound.
    assert float(second["reached_threshold [share]"]) == 0.25
    assert second["tokens_to_threshold_median [tokens]"] == ""
    assert float(second["tokens_to_threshold_median_at_least [tokens]"]) == 2000


def test_rows_with_other_metrics_share_the_columns():
    text = table.to_csv([{"a": 1, "b": 0.1}, {"a": 2, "c": float("nan")}])
    assert read(text) == [{"a": "1", "b": "0.1", "c": ""}, {"a": "2", "b": "", "c": ""}]


def test_markdown_is_a_table_of_equal_rows_that_marks_the_baseline(rows):
    claim = Claim("dapo clip|high=0.28", ">", "grpo", "accuracy", "a | b <script>\nc")
    tested = results.check_claims([claim], [row.runs for row in rows], 0.6)
    text = table.to_markdown(rows, tested, 0.6, ["a note"])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    counts = [line.replace("\\|", "").count("|") for line in lines]
    assert counts[0] == counts[1] == counts[2] == counts[3]
    assert "**grpo** (baseline)" in text and "dapo clip\\|high=0.28" in text
    assert "<script>" not in text and "- a note" in text
    assert "2 of 8" in text and "&gt; 2.00k" in text
    assert "| yes |" in text and "+0.143 [+0.143, +0.143]" in text


def test_every_column_with_a_number_has_its_unit(rows):
    headers, _ = table.main_table(rows, 0.6)
    assert all(header.endswith("]") for header in headers if header not in ("Method", "Verdict"))
    words = {"label", "method", "point", "baseline", "paired", "verdict", "reason"}
    assert all(name.endswith("]") for name in table.flat_row(rows[0]) if name not in words)


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (19.5, "19.5"),
        (940, "940"),
        (999.7, "1.00k"),
        (12_345, "12.3k"),
        (123_456, "123k"),
        (999_600, "1.00M"),
        (2.5e9, "2.50G"),
    ],
)
def test_counts_are_rounded_to_three_digits(value, text):
    assert table.round_count(value) == text


@pytest.mark.parametrize(
    "found, signed, text",
    [
        (Estimate(0.5, 0.25, 0.75), False, "0.500 [0.250, 0.750]"),
        (Estimate(-0.1, -0.2, 0.05), True, "−0.100 [−0.200, +0.050]"),
        (Estimate(0.5, float("nan"), float("nan")), False, "0.500"),
        (Estimate(float("nan"), float("nan"), float("nan")), False, "–"),
        (None, False, "–"),
    ],
)
def test_intervals_as_text(found, signed, text):
    assert table.interval(found, signed=signed) == text
