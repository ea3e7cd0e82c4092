"""The command that reads proxy and gold rewards of a run."""

import json

from tests.launch.test_commands import load


def test_it_prints_the_curve_of_the_last_stage(tmp_path, capsys):
    rows = [
        {
            "stage": "ppo",
            "step": step,
            "kind": "train",
            "kl_to_start_k3": 0.01 * step,
            "completion_tokens": 5.0,
            "reward/reward_model": float(step),
            "accuracy": 1.0 - (step - 4) ** 2 / 16,
        }
        for step in range(1, 10)
    ]
    rows.insert(0, {"stage": "sft", "step": 1, "kind": "train", "loss": 1.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command, out = load("overoptimisation"), tmp_path / "curve.json"
    assert command.main([str(tmp_path), "--window=1", f"--out={out}"]) == 0
    shown = capsys.readouterr().out
    (peak,) = [line for line in shown.splitlines() if line.endswith("<- peak of gold")]
    assert peak.split()[:5] == ["4", "0.200", "0.447", "4.000", "1.000"]
    assert "gold lost since its peak: 1.562; proxy: +5.000" in shown
    (found,) = json.loads(out.read_text()).values()
    assert len(found["points"]) == 9 and found["fits"]["gold"]["bend"] > 0
    assert command.main([str(tmp_path), "--stage=rm"]) == 1
    assert "has no stage 'rm'; its stages: sft, ppo (--stage)" in capsys.readouterr().err
    assert command.main([str(tmp_path), "--gold=reward/gold"]) == 1
    assert "has no metric 'reward/gold'" in capsys.readouterr().err
