"""What the folder of a run says: WORKDIR/config.json and WORKDIR/checkpoints/STAGE/STEP."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rljax.models.config import LoRAConfig, ModelConfig, RopeScaling


def find_step(path: str | Path) -> Path:
    """The folder of one checkpoint: CHECKPOINTS/STAGE/STEP, or the last step of CHECKPOINTS/STAGE.

    Raises:
        ValueError: if there is none.
    """
    path = Path(path).absolute()
    if (path / "state").is_dir():
        return path
    steps = [child for child in path.glob("*") if child.name.isdigit() and child.is_dir()]
    if not steps:
        raise ValueError(
            f"No checkpoint in {path}: give a Hugging Face folder, whose config.json names a "
            "model_type, or WORKDIR/checkpoints/STAGE or a step folder in it "
            "(config.model.init_from)."
        )
    return max(steps, key=lambda step: int(step.name))


def run_config(step: Path) -> dict[str, Any] | None:
    """The resolved config of the run that wrote a checkpoint; None where it has no config.json."""
    path = step.parents[2] / "config.json"
    return json.loads(path.read_text()) if path.is_file() else None


def recorded_network(config: Mapping[str, Any], step: Path) -> ModelConfig:
    """The network of a checkpoint, from the resolved config of its run.

    Args:
        config: as training/run/context.py writes it; a stage records what its network has besides
            that of the run, such as another head.
        step: WORKDIR/checkpoints/STAGE/STEP.
    """
    stage = config.get(step.parent.name, {})
    fields = {**config["network"], **stage.get("network", {})}
    if fields["rope_scaling"]:
        fields["rope_scaling"] = RopeScaling(**fields["rope_scaling"])
    if fields["lora"]:
        modules = tuple(fields["lora"]["modules"])
        fields["lora"] = LoRAConfig(**{**fields["lora"], "modules": modules})
    return ModelConfig(**fields)
