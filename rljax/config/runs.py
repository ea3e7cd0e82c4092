"""What the folder of a run says: WORKDIR/config.json and WORKDIR/checkpoints/STAGE/STEP."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rljax.errors import blamed
from rljax.models.config import LoRAConfig, ModelConfig, RopeScaling


def find_step(path: str | Path, field: str = "config.model.init_from") -> Path:
    """The folder of one checkpoint.

    Args:
        path: CHECKPOINTS/STAGE/STEP; CHECKPOINTS/STAGE, for its last step; or the folder of a run,
            for the last step of the last stage that has one.
        field: that names it, for errors.

    Raises:
        ValueError: if there is none.
    """
    path = Path(path).absolute()
    if (path / "state").is_dir():
        return path
    steps = _steps(path)
    if not steps and (path / "checkpoints").is_dir():
        stages = (run_config_of(path) or {}).get("stages")
        stages = stages if isinstance(stages, list) else []
        found = [_steps(path / "checkpoints" / str(stage)) for stage in stages]
        steps = next((each for each in reversed(found) if each), [])
    if not steps and (folder := _store_of(path)):
        raise ValueError(
            f"The checkpoints of the run in {path} are in {folder}: copy the folder of a stage to "
            f"{path / 'checkpoints'} ({field})."
        )
    if not steps:
        raise ValueError(
            f"No checkpoint in {path}: give a Hugging Face folder, whose config.json names a "
            "model_type, or the folder of a run, or WORKDIR/checkpoints/STAGE or a step folder in "
            f"it ({field})."
        )
    return max(steps, key=lambda step: int(step.name))


def _store_of(workdir: Path) -> str:
    """The store that holds a run's checkpoints (config.checkpoint.folder); "" without one."""
    section = (run_config_of(workdir) or {}).get("checkpoint")
    folder = section.get("folder") if isinstance(section, dict) else ""
    return folder if isinstance(folder, str) else ""


def _steps(folder: Path) -> list[Path]:
    return [child for child in folder.glob("*") if child.name.isdecimal() and child.is_dir()]


def find_run(path: str | Path, field: str) -> tuple[Path, dict[str, Any]]:
    """A checkpoint of a run, and the resolved config of that run.

    Args:
        path: as for `find_step`.
        field: the flag that names it, for errors.

    Raises:
        ValueError: if there is no checkpoint, or it does not lie in the folder of a run.
    """
    step = find_step(path, field)
    config = run_config(step)
    if config is None:
        raise ValueError(
            f"No {step.parents[2] / 'config.json'}: the checkpoint must lie in the folder of a "
            f"run, as WORKDIR/checkpoints/STAGE[/STEP] ({field})."
        )
    if not {"network", "tokenizer", "model", "stages"} <= set(config):
        raise ValueError(f"{step.parents[2] / 'config.json'} is not that of a run ({field}).")
    return step, config


def run_config(step: Path) -> dict[str, Any] | None:
    """The resolved config of the run that wrote a checkpoint; None where it has no config.json."""
    return run_config_of(step.parents[2])


def run_config_of(workdir: Path) -> dict[str, Any] | None:
    """The resolved config of a run; None where it has no config.json.

    Raises:
        ValueError: if the file is damaged.
    """
    path = workdir / "config.json"
    if not path.is_file():
        return None
    with blamed(f"{path} is damaged", OSError, ValueError, RecursionError, field="the run's files"):
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: it holds no object (the run's files).")
    return found


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
