"""Gold answers of every type: what is read as what, and what is refused with which words."""

import datetime
import decimal

import numpy as np
import pytest

from rljax.rewards.mathematics.golds import read_gold


@pytest.mark.parametrize(
    "reference, shown, rule",
    [
        (72, "72", "number"),
        (72.0, "72", "number"),
        (0.1 + 0.2, "0.3", "number"),
        (2**70, str(2**70), "number"),
        (decimal.Decimal("72.50"), "72.5", "number"),
        (decimal.Decimal("1E+3"), "1000", "number"),
        (np.int64(5), "5", "number"),
        (np.float64(2.5), "2.5", "number"),
        (np.str_("72"), "72", "number"),
        (np.array(["72", "73"], object), "72 | 73", "alternatives"),
        ({"answer": "72"}, "72", "number"),
        ({"answer": None, "ground_truth": "72", "style": "rule"}, "72", "number"),
        ({"answer": {"answer": 5}}, "5", "number"),
        (["1/2", "0.5"], "1/2 | 0.5", "alternatives"),
        (["72"], "72", "number"),
        ('["72"]', "72", "number"),
        ("['72', '73']", "72 | 73", "alternatives"),
        (r"['\\frac{1}{2}']", "1/2", "number"),
        ("(A) 5", "A | 5", "choice and its text"),
        ("\\textbf{(B)}\\ \\frac{12}{5}", "B | 12/5", "choice and its text"),
        ('{"answer": 72}', "72", "number"),
        ("a = 24.\n#### 72", "72", "number, after ####"),
        ("so\n\\boxed{72}", "72", "number, in a box"),
        ("The answer is 42.", "42", "number, in a sentence"),
        ("The answer is (B)", "B", "choice, in a sentence"),
        ("3 1/2", "7/2", "number"),
        ("10\\%", "10%", "number"),
        ("5\\text{ cm}", "5 cm", "number"),
        ("x = 5", "x = 5", "number"),
        ("A, C", "A, C", "choice"),
        ("\\text{Yes}", "yes", "words"),
        ("\\frac{\\sqrt{2}}{2}", "sqrt(2)/2", "expression"),
        ("(-\\infty, 3)", "Interval.open(-oo, 3)", "expression"),
        ("2^{2005}", "2^{2005}", "spelling"),
        ("n \\equiv 2 \\pmod{5}", "n \\equiv 2 \\pmod{5}", "spelling"),
    ],
    ids=str,
)
def test_types_and_rules(reference, shown, rule):
    gold = read_gold(reference)
    assert (gold.shown, gold.rule) == (shown, rule)


@pytest.mark.parametrize(
    "reference, words",
    [
        (True, "text or a number, got True"),
        (np.bool_(False), "text or a number, got False"),
        (None, "text or a number, got None"),
        ({"answer": None}, "text or a number"),
        ({"value": 5}, "text or a number"),
        (b"72", "text or a number"),
        (datetime.date(2020, 1, 1), "text or a number"),
        ([], "empty list"),
        ([None], "got None"),
        (float("nan"), "must be finite"),
        (float("-inf"), "must be finite"),
        (decimal.Decimal("NaN"), "must be finite"),
        (decimal.Decimal("1E+999999"), "beyond 10"),
        (1e22, "has lost digits; write it as text"),
        ("", "it has 0 characters"),
        (" \n", "it has 0 characters"),
        ("####", "it has 0 characters"),
        ("\\boxed{}", "it has 0 characters"),
        ("x" * 501, "it has 501 characters; 1 to 500"),
        ("\\boxed{7", "last box is not closed"),
        ("nan", "missing value"),
        (r'["\frac{1}{2}"]', "write them twice"),
        ("NULL", "missing value"),
        ("N/A", "missing value"),
        ("1/0", "no value"),
        ("\\frac{1}{0}", "no value"),
        ("\\frac{1}{", "braces do not match"),
        ("He has 5 apples", "words and mathematics"),
        ("She sold 72 clips in total.", "words and mathematics"),
        ("x = 2 when n = 3", "words and mathematics"),
        ("5 to 1", "words and mathematics"),
        ("\\text{all } n \\ge 2 \\text{ that are even}", "words and mathematics"),
        ("one line\nand another", "several lines"),
        ("0.333...", "goes on"),
        ("3.14\\ldots", "goes on"),
        ("1.000,50", "decimal comma"),
        ("1,00,000", "groups of two digits"),
        ("['72'", "no JSON"),
        ("?", "no number, letter or word"),
    ],
    ids=repr,
)
def test_what_cannot_be_read_says_why(reference, words):
    with pytest.raises(ValueError, match=words):
        read_gold(reference)
