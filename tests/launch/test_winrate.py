"""The command that compares two sets of completions."""

import json

from tests.launch.test_commands import load


def written(path, rewards):
    lines = [
        {"id": n, "prompt": f"p{n}", "greedy": [{"text": "x", "tokens": 2 + n, "reward": reward}]}
        for n, reward in enumerate(rewards)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_it_prints_figures_of_two_files(tmp_path, capsys):
    first = written(tmp_path / "first.jsonl", [1.0, 1.0, 0.0, 1.0])
    second = written(tmp_path / "second.jsonl", [0.0, 0.0, 0.0, 2.0])
    command, out = load("winrate"), tmp_path / "figures.json"
    assert command.main([first, second, "--by=reward", f"--out={out}"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(out.read_text())
    assert (found["wins"], found["ties"], found["losses"]) == (2, 1, 1)
    assert found["win_rate"] == 0.625 and found["mean_scores"] == [0.75, 0.5]
    low, high = found["win_rate_interval"]
    assert 0.1 < low < 0.625 < high < 0.95
    assert command.main([first, second, "--by=reward", f"--out={out}"]) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_flags_that_nobody_reads_are_refused(tmp_path, capsys):
    first = written(tmp_path / "first.jsonl", [1.0])
    command = load("winrate")
    for flag, said in (
        ("--answers=X,Y", "only a judge is asked"),
        ("--tie-margin=-1", ">= 0"),
        ("--tie-margin=nan", ">= 0, got nan"),
        ("--tokenizer=byte", "no model is read"),
        ("--dtype=bfloat16", "no model is read"),
    ):
        assert command.main([first, first, "--by=reward", flag]) == 1
        assert said in capsys.readouterr().err
    assert command.main([first, first, "--judge=nowhere", "--tie-margin=1"]) == 1
    assert "gives no scores" in capsys.readouterr().err
    assert command.main([first, first, "--reward-model=nowhere"]) == 1
    assert "--reward-model" in capsys.readouterr().err
