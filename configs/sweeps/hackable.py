"""The methods of configs/hackable.py, each a cell: see there for the command."""

import runpy
from collections.abc import Iterator
from pathlib import Path

HACKABLE = runpy.run_path(str(Path(__file__).parents[1] / "hackable.py"))


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
    """What the config of a method says otherwise than that of the first one."""
    for method in HACKABLE["METHODS"]:
        config = HACKABLE["get_config"](method)
        rl = {name: config.rl.get(name, {}) for name in ("batch", "critic", "objective")}
        yield (
            method,
            {
                "rl.method": method,
                "scoring.rewards": config.scoring.rewards,
                "rl.batch.sequences_per_update": rl["batch"].get("sequences_per_update"),
                "rl.batch.epochs_per_step": rl["batch"].get("epochs_per_step"),
                "rl.critic.trunk": rl["critic"].get("trunk"),
                "rl.critic.learning_rate": rl["critic"].get("learning_rate"),
                "rl.objective.kl_weight": rl["objective"].get("kl_weight"),
                "rl.objective.thresholds": rl["objective"].get("thresholds"),
            },
        )
