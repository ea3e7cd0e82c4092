"""The first examples in the report: every token, its kind and its id, escaped."""

import re
from html import unescape

import pytest
from fake_run import NASTY, make_workdir

from rljax.reporting.example_view import KINDS, SHOWN, read_example, token_spans
from rljax.reporting.files import read_json, write_json_atomic
from rljax.reporting.report import write_report
from rljax.training.self_check.example import STYLES

SPAN = re.compile(r'<span class="token-(\w+)" title="id (\d+)">(.*?)</span>', re.DOTALL)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return make_workdir(tmp_path_factory.mktemp("runs") / "run", warmup=5, steps=6, prompts=1)


def drawn(workdirs, out):
    """The section's HTML."""
    write_report(workdirs, out)
    page = out.read_text(encoding="utf-8")
    assert page.count('<section id="examples">') == 1 and 'href="#examples"' in page
    return page.partition('<section id="examples">')[2].partition("</section>")[0]


def test_the_report_shows_one_example_of_each_stage(workdir, tmp_path):
    section = drawn([workdir], tmp_path / "report.html")
    titles = re.findall(r"<span class=title>(.*?)</span>", section)
    assert titles == ["warmup", "grpo"]
    first = SPAN.findall(section)[:8]
    example = read_json(workdir / "examples/warmup.json")
    assert [kind for kind, _, _ in first] == example["kinds"]
    assert [int(number) for _, number, _ in first] == example["ids"]
    texts = [unescape(text) for _, _, text in first]
    assert texts == ["Add", " 1", NASTY, "↵\n", "2", "□", "<eos>", "3"]
    assert "<script>" not in section and "&lt;script&gt;" in section


def test_the_legend_names_every_kind_that_the_self_check_knows(workdir, tmp_path):
    section = drawn([workdir], tmp_path / "report.html")
    legend = section.partition("<ul")[2].partition("</ul>")[0]
    assert re.findall(r'<span class="token-(\w+)">\1</span>', legend) == list(KINDS)
    assert set(KINDS) == set(STYLES)


def test_compared_runs_are_told_apart(workdir, tmp_path):
    other = make_workdir(tmp_path / "other", warmup=5, steps=6, prompts=1)
    section = drawn([workdir, other], tmp_path / "report.html")
    titles = re.findall(r"<span class=title>(.*?)</span>", section)
    assert titles == ["run, warmup", "run, grpo", "other, warmup", "other, grpo"]


def test_a_run_without_examples_has_no_section(tmp_path):
    made = make_workdir(tmp_path / "run", warmup=5, steps=6, prompts=1)
    (made / "examples/warmup.json").unlink()
    empty = {"stage": "grpo", "tokens": [], "ids": [], "kinds": []}
    write_json_atomic(made / "examples/grpo.json", empty)
    write_report([made], tmp_path / "report.html")
    assert "First examples" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_middle_of_a_long_example_is_left_out():
    count = SHOWN + 5
    example = {"tokens": ["x"] * count, "ids": list(range(count)), "kinds": ["learned"] * count}
    html = token_spans(example)
    numbers = [int(number) for _, number, _ in SPAN.findall(html)]
    half = SHOWN // 2
    assert numbers == [*range(half), *range(half + 5, count)]
    assert "... 5 tokens ..." in html


@pytest.mark.parametrize(
    "change, message",
    [
        ({"ids": [1]}, "lists of one length"),
        ({"kinds": None}, "lists of one length"),
        ({"kinds": ['"><b>', "end"]}, "token 0 must be"),
        ({"ids": [1, '"']}, "token 1 must be"),
        ({"tokens": ["a", 5]}, "token 1 must be"),
    ],
)
def test_a_damaged_example_is_named(change, message, tmp_path):
    example = {"tokens": ["a", "b"], "ids": [1, 2], "kinds": ["prompt", "end"]} | change
    write_json_atomic(tmp_path / "sft.json", example)
    with pytest.raises(ValueError, match=f"sft.json.*{message}"):
        read_example(tmp_path / "sft.json")
