"""Steps are run side by side, or shown as a script that does the same."""

import subprocess

import pytest

from rljax.pods.steps import Command, Step, as_shell, run_steps


def test_steps_run_side_by_side_and_keep_the_lines_of_each(tmp_path, capsys):
    words = ("/bin/sh", "-c")
    beside = (
        Command((*words, "echo one; exit 75"), host="a"),
        Command((*words, "cat; exit 255"), host="b", text="two\n"),
    )
    first = Step("first", (Command((*words, "echo zero")),))
    assert run_steps([first, Step("both", beside), first], tmp_path / "logs") == 75
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "zero" and sorted(out[1:]) == ["[a] one", "[b] two"]
    assert (tmp_path / "logs/b.log").read_text() == "two\n"
    with pytest.raises(ValueError, match="no-such-program is not installed here"):
        run_steps([Step("x", (Command(("no-such-program",)),))], tmp_path)


def test_a_dry_run_is_a_script_that_does_the_same(tmp_path):
    steps = [Step("one", (Command(("cat",), text="it's $x\n"), Command(("echo", "a b"))))]
    done = subprocess.run(["sh"], input=as_shell(steps).encode(), capture_output=True)
    assert sorted(done.stdout.decode().splitlines()) == ["a b", "it's $x"]
