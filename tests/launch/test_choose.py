"""launch/choose.py: problems whose samples score lowest, highest, or any."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("choose_command", ROOT / "launch/choose.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(name, reference, *texts):
    answers = [{"text": text, "tokens": list(range(len(text)))} for text in texts]
    return {"prompt": name, "reference": reference, "completions": answers}


ROWS = [
    row("all right", "a b c d", "a b c d", "a b c d"),
    row("half right", "a b c d", "a b c d", "x"),
    row("wrong", "a b c d", "x", "y"),
    row("one sample", "a b c d", "a b c x"),
]


def run(command, tmp_path, rows, *flags):
    samples, out = tmp_path / "samples.jsonl", tmp_path / "out.jsonl"
    samples.write_text("".join(json.dumps(each) + "\n" for each in rows))
    status = command.main([str(samples), f"--out={out}", *flags])
    return status, [json.loads(line) for line in out.read_text().splitlines()] if not status else []


@pytest.mark.parametrize(
    "rule, names",
    [("lowest", ["half right", "wrong"]), ("highest", ["all right", "one sample"])],
)
def test_the_chosen_are_in_the_order_of_the_file(command, tmp_path, rule, names):
    status, rows = run(command, tmp_path, ROWS, "--reward=bleu", "--keep=2", f"--by={rule}")
    assert status == 0 and [each["prompt"] for each in rows] == names
    assert all(set(each) == {"prompt", "reference", "score"} for each in rows)


def test_random_follows_its_seed(command):
    scores = command.np.arange(50.0)
    first, again, other = (command.chosen(scores, 9, "random", seed) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize(
    "rows, flags, message",
    [
        (ROWS, ["--by=hardest"], "Unknown rule 'hardest'"),
        (ROWS, ["--keep=5"], "keep=5 of 4 problems (--keep)"),
        (ROWS, ["--reward=blue"], "Unknown reward 'blue'"),
        ([*ROWS, row("none", "a")], [], "line 5: there is no completion to score"),
        ([ROWS[0] | {"completions": "a"}], ["--keep=1"], "line 1: completions must be a list"),
        ([row("p", "", "a")], ["--keep=1"], "every reference a word"),
    ],
)
def test_what_cannot_be_chosen(command, tmp_path, capsys, rows, flags, message):
    kept = [] if any(flag.startswith("--keep") for flag in flags) else ["--keep=1"]
    scored = [] if any(flag.startswith("--reward") for flag in flags) else ["--reward=bleu"]
    status, _ = run(command, tmp_path, rows, *kept, *scored, *flags)
    assert status == 1 and message in capsys.readouterr().err
