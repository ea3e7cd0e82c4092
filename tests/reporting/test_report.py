"""The HTML report: complete, self-contained, safe against what a model may write."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fake_run import NASTY, make_workdir
from rich.console import Console

from rljax.reporting import rollout_view
from rljax.reporting.files import read_json, write_json_atomic
from rljax.reporting.glossary import FAMILIES, METRICS, is_share
from rljax.reporting.progress import format_value
from rljax.reporting.report import write_report
from rljax.reporting.rollout_view import MAX_PROMPTS, MAX_SAMPLES, compact_rollout
from rljax.reporting.run_data import read_runs
from rljax.reporting.sections import stage_charts
from rljax.reporting.summary import print_summary
from rljax.reporting.writers import WorkdirWriter

ROOT = Path(__file__).parents[2]
VOID = {"meta", "link", "img", "br", "hr", "input", "rect", "path", "circle"}


class Page(HTMLParser):
    """Collects tags, scripts, ids, texts; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[tuple[dict, str]] = []
        self.ids: list[str] = []
        self.figures: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag not in VOID:
            self._open.append(tag)
        if tag == "script":
            self.scripts.append((attrs, ""))

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._open and self._open[-1] != "style":
            self.texts.append(data.strip())

    def data(self, name: str):
        (found,) = [text for attrs, text in self.scripts if attrs.get("id") == name]
        return json.loads(found)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    return make_workdir(tmp_path_factory.mktemp("runs") / "quickstart")


def draw(workdirs: list[Path], out: Path) -> Page:
    write_report(workdirs, out)
    return Page(out.read_text(encoding="utf-8"))


def test_the_report_loads_nothing_from_anywhere(workdir, tmp_path):
    page = draw([workdir], tmp_path / "report.html")
    for tag, name, value in page.attributes:
        assert tag not in ("link", "iframe", "img", "object", "embed")
        assert name not in ("src", "srcset", "xlink:href", "action") and not name.startswith("on")
        if name == "href":
            assert value.startswith("#") and value[1:] in page.ids
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for word in ("http://", "https://", "@import", "@font-face", "fetch(", "import(", "XMLHttp"):
        assert word not in text
    assert text.count("url(") == text.count("url(#plot)")
    assert "default-src 'none'" in text
    assert len(page.ids) == len(set(page.ids))


def test_every_logged_metric_is_drawn_with_its_values(workdir, tmp_path):
    page = draw([workdir], tmp_path / "report.html")
    for title in (
        ["Held-out accuracy", "Reward", "Accuracy", "Entropy", "KL to the start", "Time per step"]
        + ["Completion length", "Clip fraction", "Gradient norm", "Groups without signal"]
        + ["Token accuracy", "A user metric", "Held-out completion length"]
    ):
        assert title in page.texts, title
    lines = {line["name"]: line for chart in page.data("chart-data") for line in chart["lines"]}
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for name, label in (("reward", "Reward"), ("a_user_metric", "A user metric")):
        logged = [float(f"{row[name]:.4g}") for row in rows if name in row]
        assert lines[label]["values"] == logged
        assert lines[label]["steps"] == list(range(1, 121))
    assert lines["sampling"]["steps"] == list(range(1, 121))
    assert {"Greedy accuracy", "pass@1", "pass@8", "majority@8"} <= set(lines)


def test_headline_and_environment(workdir, tmp_path):
    page = draw([workdir], tmp_path / "report.html")
    for text in ("quickstart", "0.283", "0.920", "5:01", "0.10.2", "versions.jax", "config_hash"):
        assert text in page.texts, text
    assert "not finished" not in page.texts


@pytest.mark.parametrize(
    "before, after, style", [(0.8, 0.3, "drop"), (0.3, 0.8, "rise"), (0.5, 0.5, None)]
)
def test_a_fall_of_the_accuracy_is_not_shown_as_a_success(before, after, style, tmp_path):
    folder = make_workdir(tmp_path / "run", steps=12, warmup=4)
    summary = {"heldout_accuracy_before": before, "heldout_accuracy_after": after}
    write_json_atomic(folder / "summary.json", summary)
    write_report([folder], tmp_path / "r.html")
    name = f"after {style}" if style else "after"
    assert f"<span class='{name}'>{after:.3f}</span>" in (tmp_path / "r.html").read_text()
    write_report([folder, make_workdir(tmp_path / "b", steps=12, warmup=4)], tmp_path / "r.html")
    assert f"<b class='{name}'>{format_value(after)}</b>" in (tmp_path / "r.html").read_text()
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard")
    print_summary(summary, console)
    colour = {"rise": "\x1b[1;32m", "drop": "\x1b[1;31m", None: "\x1b[1m"}[style]
    assert f"{colour}{after:.3f}" in console.file.getvalue()


def test_charts_have_captions_and_the_first_one_is_a_curve(tmp_path):
    """A stage that is evaluated once, at its end, does not begin with that point."""
    writer = WorkdirWriter(tmp_path / "run")
    for step in range(1, 6):
        row = {"stage": "warmup", "step": step, "kind": "train", "clip_share_low": 0.1}
        writer.write({**row, "loss": 1 / step, "ratio_min": 0.9, "mine": 1.0, "reward/a": 0.5})
    heldout = {"stage": "warmup", "step": 5, "kind": "heldout", "accuracy_greedy": 0.5}
    writer.write({**heldout, "pass@1": 0.4, "majority@4": 0.6})
    writer.close()
    (run,) = read_runs([tmp_path / "run"])
    charts = stage_charts("warmup", [(0, run)], False)
    assert charts[0].is_curve and not charts[-1].is_curve
    assert all(chart.meaning for chart in charts), [c.title for c in charts if not c.meaning]
    assert all(hint for chart in charts for hint in chart.hints)


def test_every_family_of_metrics_has_a_caption():
    assert {metric.family for metric in METRICS.values()} - {""} == set(FAMILIES)


def test_nasty_completions_stay_text(workdir, tmp_path):
    page = draw([workdir], tmp_path / "report.html")
    assert len(page.scripts) == 3
    (source,) = page.data("rollout-data")
    assert [step["step"] for step in source["steps"]] == [1, 60, 120]
    prompt = source["steps"][0]["prompts"][0]
    assert prompt["prompt"].endswith(NASTY)
    assert NASTY in [sample["tokens"][0] for sample in prompt["samples"]]
    rewards = [sample["reward"] for sample in prompt["samples"]]
    assert rewards == sorted(rewards, reverse=True)


def test_nasty_names_and_configs_stay_text(tmp_path):
    folder = make_workdir(tmp_path / "<img src=x>&", warmup=5, steps=6, prompts=1)
    nasty = {"stage": "<i>s", "step": 1, "kind": "train", "<b>m": 1.0}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(nasty) + "\n")
    write_json_atomic(folder / "config.json", {"<u>": NASTY})
    other = make_workdir(tmp_path / "other", warmup=5, steps=6, prompts=1)
    for workdirs in ([folder], [folder, other]):
        page = draw(workdirs, tmp_path / "report.html")
        assert not {"img", "i>s", "b>m", "u"} & {tag for tag, _, _ in page.attributes}
        assert "<b>m" in page.texts and "<i>s" in page.texts and "<u>" in page.texts
        assert len(page.scripts) == 3


def test_comparing_runs_shows_only_the_fields_that_differ(workdir, tmp_path):
    other = make_workdir(
        tmp_path / "b" / "quickstart", seed=1, learning_rate=1e-3, complete=False, steps=60
    )
    page = draw([workdir, other], tmp_path / "report.html")
    at = page.texts.index("What differs")
    end = page.texts.index("The whole config")
    assert {"seed", "optimizer.learning_rate", "0.0003", "0.001"} <= set(page.texts[at:end])
    assert "model.layers" not in page.texts[at:end] and "model.layers" in page.texts[end:]
    assert "not finished" in page.texts
    # Two runs of one name are told apart by their folders.
    names = {line["name"] for chart in page.data("chart-data") for line in chart["lines"]}
    assert len(names) == 2 and all(name.endswith("quickstart") for name in names)
    rewards = [
        chart
        for chart in page.data("chart-data")
        if [len(line["steps"]) for line in chart["lines"]] == [120, 60]
    ]
    assert [line["colour"] for line in rewards[0]["lines"]] == [0, 1]
    assert {source["run"] for source in page.data("rollout-data")} == names


def test_a_run_that_is_still_running(workdir, tmp_path):
    folder = make_workdir(tmp_path / "running", steps=30, complete=False)
    path = folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert "not finished" in draw([folder], folder / "report.html").texts
    # The very first moment: a config, but nothing logged.
    empty = tmp_path / "empty"
    write_json_atomic(empty / "config.json", {"seed": 0})
    page = draw([empty], empty / "report.html")
    assert "No metrics have been logged yet." in page.texts
    draw([workdir, empty], tmp_path / "both.html")


def test_large_runs_stay_small(tmp_path):
    folder = tmp_path / "long"
    folder.mkdir()
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, 20_001):
            file.write(
                f'{{"stage": "grpo", "step": {step}, "kind": "train", "reward": {step % 7}}}\n'
            )
    page = draw([folder], tmp_path / "report.html")
    (chart,) = page.data("chart-data")
    steps = chart["lines"][0]["steps"]
    assert len(steps) == 500 and (steps[0], steps[-1]) == (1, 20_000)
    assert (tmp_path / "report.html").stat().st_size < 120_000


def _rollout(prompts: int, samples: int, tokens: int) -> dict:
    sample = {"tokens": ["a"] * tokens, "logprobs": [-1.0] * tokens, "ratio": [1.0] * tokens}
    return {
        "stage": "grpo",
        "step": 1,
        "prompts": [
            {"id": i, "prompt": "p", "samples": [{**sample, "reward": j} for j in range(samples)]}
            for i in range(prompts)
        ],
    }


def test_large_rollouts_are_cut_with_a_note():
    found = compact_rollout(_rollout(40, 64, 3))
    assert len(found["prompts"]) == MAX_PROMPTS
    rewards = [sample["reward"] for sample in found["prompts"][0]["samples"]]
    assert len(rewards) == MAX_SAMPLES and (rewards[0], rewards[-1]) == (63, 0)
    assert len(found["prompts"][0]["rewards"]) == 64
    assert "16 of 40 prompts" in found["note"] and "at most 16 samples" in found["note"]
    assert compact_rollout(_rollout(2, 4, 3))["note"] == ""
    many_tokens = compact_rollout(_rollout(10, 2, 100), limit_tokens=450)
    assert len(many_tokens["prompts"]) == 2 and "2 of 10 prompts" in many_tokens["note"]
    assert len(compact_rollout(_rollout(10, 2, 100), limit_tokens=1)["prompts"]) == 1


def test_samples_may_lack_fields_or_have_advantages_per_token():
    rollout = _rollout(1, 1, 2)
    rollout["prompts"][0]["samples"][0] |= {
        "advantage": [0.5, float("nan")],
        "clipped": [False, True],
        "finished": False,
    }
    (sample,) = compact_rollout(rollout)["prompts"][0]["samples"]
    assert sample["advantage"] == [0.5, "nan"]
    assert sample["clipped"] == [1] and not sample["finished"]
    json.loads(rollout_view.embed_json(sample))


def test_every_token_of_the_page_has_its_numbers(workdir, tmp_path):
    (source,) = draw([workdir], tmp_path / "report.html").data("rollout-data")
    for step in source["steps"]:
        for prompt in step["prompts"]:
            for sample in prompt["samples"]:
                count = len(sample["tokens"])
                assert count and len(sample["logprobs"]) == len(sample["ratio"]) == count
                assert min(sample["logprobs"]) < 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"logprobs": None}, "no 'logprobs'"),
        ({"logprobs": [-1.0]}, "1 values of 'logprobs' for 2 tokens"),
        ({"ratio": []}, "0 values of 'ratio' for 2 tokens"),
    ],
)
def test_rollouts_whose_lists_do_not_fit_the_tokens_are_an_error(tmp_path, change, message):
    rollout = _rollout(1, 2, 2)
    rollout["prompts"][0]["samples"][1] |= change
    write_json_atomic(tmp_path / "grpo-000001.json", rollout)
    with pytest.raises(ValueError, match=f"grpo-000001.json, prompt 0, sample 2: .*{message}"):
        rollout_view.read_rollout(tmp_path / "grpo-000001.json")


def test_samples_without_a_reward_come_last_and_are_no_part_of_the_mean():
    rollout = _rollout(1, 6, 2)
    samples = rollout["prompts"][0]["samples"]
    for sample, reward in zip(samples, (None, -3.0, "nan", -1.0, "-inf", 0.0), strict=True):
        sample["reward"] = reward
    (prompt,) = compact_rollout(rollout)["prompts"]
    assert [s["reward"] for s in prompt["samples"]] == [0.0, -1.0, -3.0, "-inf", None, "nan"]
    assert prompt["rewards"] == [None, -3.0, None, -1.0, None, 0.0]
    rollout_view.embed_json(prompt)


@pytest.mark.parametrize("name", ["accuracy_greedy", "pass@8", "majority@64", "clip_share_low"])
def test_shares_are_known_by_name(name):
    assert is_share(name)
    assert {"accuracy", "token_accuracy", "groups_without_signal"} <= set(filter(is_share, METRICS))
    assert not {"reward", "loss", "ratio_mean", "completion_tokens"} & set(
        filter(is_share, METRICS)
    )


def test_a_constant_heldout_accuracy_has_no_axis_beyond_1(tmp_path):
    folder = tmp_path / "constant"
    folder.mkdir()
    row = {"stage": "grpo", "kind": "heldout", "accuracy_greedy": 1.0, "pass@8": 1.0}
    lines = [json.dumps({**row, "step": step}) + "\n" for step in range(3)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    write_report([folder], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    marks = [float(x) for x in re.findall(r'y="[\d.]+" text-anchor="end">([\d.]+)</text>', text)]
    assert marks == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0]  # the last one is a step


def test_the_time_chart_says_what_an_update_holds(workdir, tmp_path):
    page = draw([workdir], tmp_path / "report.html")
    assert any("old and reference log-probabilities" in text for text in page.texts)


BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)


def drawn_viewer(workdir: Path, folder: Path, script: str = "") -> str:
    """The rollout viewer's HTML after the page's script, and then `script`, have run."""
    out = folder / "drawn.html"
    write_report([workdir], out)
    text = out.read_text(encoding="utf-8")
    out.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    line = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    line += [f"--user-data-dir={folder / 'profile'}", out.as_uri()]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    start = done.stdout.index('<section id="rollouts"')
    return done.stdout[start : done.stdout.index("<script", start)]


@pytest.mark.skipif(BROWSER is None, reason="needs a browser")
def test_the_viewer_colours_tokens_and_says_what_ratio_and_clip_mean(tmp_path):
    folder = make_workdir(tmp_path / "run", warmup=5, steps=6, prompts=1)
    path = folder / "rollouts" / "grpo-000006.json"
    rollout = read_json(path)
    samples = rollout["prompts"][0]["samples"]
    for sample, reward in zip(samples, [None, None, 1.0, 0.0, 0.5, 0.5, 0.5, 0.0], strict=True):
        sample["reward"] = reward
    write_json_atomic(path, rollout)
    hover = (
        "const t = viewer.querySelector('.tokens .clipped');"
        "t.dispatchEvent(new PointerEvent('pointermove', {bubbles: true}));"
    )
    html = drawn_viewer(folder, tmp_path, hover)
    assert len(re.findall(r'data-token="\d+"[^>]*style="background: rgb', html)) > 50
    rewards = re.findall(r"<header><span>reward <b>([^<]*)</b>", html)
    assert rewards == ["1", "0.5", "0.5", "0.5", "0", "0", "–", "–"]
    assert "mean reward <b>0.4167</b> of 6; 2 without a reward" in html
    assert "<span>ratio at the update</span>" in html  # of the tooltip
    assert "<span>clip dropped the gradient</span><b>yes</b>" in html
    assert ">ratio at the update</button>" in html
    assert "under the policy that its update started from" in html
    assert ">clipped<" not in html and "was clipped" not in html


@pytest.mark.skipif(BROWSER is None, reason="needs a browser")
def test_the_viewer_offers_no_ratio_where_the_method_has_none(tmp_path):
    folder = make_workdir(tmp_path / "run", warmup=5, steps=6, prompts=1)
    for path in (folder / "rollouts").iterdir():
        rollout = read_json(path)
        for sample in rollout["prompts"][0]["samples"]:
            del sample["ratio"], sample["clipped"]
        write_json_atomic(path, rollout)
    html = drawn_viewer(folder, tmp_path)
    for word in ("Colour by", "key-clipped", "Ratio", ">null<"):
        assert word not in html
    assert len(re.findall(r'data-token="\d+"[^>]*style="background: rgb', html)) > 50


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    environment = {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, str(ROOT / "launch" / "report.py"), *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_command_writes_where_it_says(workdir, tmp_path):
    other = make_workdir(tmp_path / "other", warmup=5, steps=6, prompts=1)
    done = command(other, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"wrote {other / 'report.html'}\n"), done.stderr
    assert command(workdir, other, cwd=tmp_path).returncode == 0
    assert "2 runs" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert command(workdir, other, "--out=both/x.html", cwd=tmp_path).returncode == 1
    (tmp_path / "both").mkdir()
    assert command(workdir, other, "--out=both/x.html", cwd=tmp_path).returncode == 0
    assert (tmp_path / "both" / "x.html").exists()


def test_bad_input_is_one_clear_error(workdir, tmp_path):
    (tmp_path / "no_run").mkdir()
    damaged = make_workdir(tmp_path / "damaged", warmup=5, steps=6, prompts=1)
    (damaged / "config.json").write_text("{")
    torn = make_workdir(tmp_path / "torn", warmup=5, steps=6, prompts=1)
    lines = (torn / "metrics.jsonl").read_text().splitlines(keepends=True)
    (torn / "metrics.jsonl").write_text("".join([*lines[:2], "{]\n", *lines[2:]]))
    cases = {
        tmp_path / "missing": "No such folder",
        tmp_path / "no_run": "is not the workdir of a run",
        damaged: "config.json is not valid JSON",
        torn: "metrics.jsonl, line 3 is not valid JSON",
    }
    for path, message in cases.items():
        with pytest.raises(ValueError, match=message):
            write_report([path], tmp_path / "x.html")
    with pytest.raises(ValueError, match="given twice"):
        write_report([workdir, workdir], tmp_path / "x.html")
    with pytest.raises(ValueError, match="at least one"):
        write_report([], tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()
    failed = command(tmp_path / "missing", cwd=tmp_path)
    assert failed.returncode == 1 and failed.stderr.startswith("error: No such folder")
    assert failed.stderr.count("\n") == 1


def test_reporting_imports_no_jax():
    modules = "rljax.reporting.report, rljax.reporting.writers"
    code = f"import sys, {modules}; sys.exit('jax' in sys.modules)"
    environment = {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
