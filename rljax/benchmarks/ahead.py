"""A whole run in turn beside the same run with a sampler ahead, where the verifier waits.

The task is to repeat the letter of the prompt; a network of some ten thousand parameters learns it
from nothing. The verifier sleeps: it takes no core, as one that runs elsewhere.
"""

import dataclasses
import io
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console

from rljax.benchmarks.machine import machine, measured_rate
from rljax.benchmarks.workload import Settings
from rljax.config.load import apply_overrides, complete
from rljax.reporting.files import METRICS_FILE, TIMING_FILE, read_rows
from rljax.training import loop
from rljax.training.ahead.source import BESIDE

LETTERS = "abcd"
WORKERS = 2
UNTIMED = 5  # first steps, in which programs compile
STAGE = "rl"


def copy_config(
    folder: Path, settings: Settings, *, seconds: float = 0.0, staleness: int = 0
) -> ConfigDict:
    """The config of a run.

    Args:
        folder: of its data, which is written there.
        settings: sizes, and fields that differ.
        seconds: that the verifier waits for each sample.
        staleness: of `config.asynchronous`.
    """
    path = folder / "letters.jsonl"
    path.write_text("".join(json.dumps({"prompt": c, "reference": c}) + "\n" for c in LETTERS))
    reward = f"{Path(__file__).with_name('copy_reward.py')}:copied"
    config = complete(
        {
            "name": "ahead",
            "stages": (STAGE,),
            "model": {"layers": 1, "width": 32, "heads": 2, "kv_heads": 1},
            "data": {
                "kind": "jsonl",
                "path": str(path),
                "heldout_path": str(path),
                "max_prompt_tokens": 2,
                "heldout_size": len(LETTERS),
            },
            "scoring": {
                "rewards": ({"name": reward, "options": {"seconds": seconds}, "right_at": 0.1},),
                "workers": WORKERS,
            },
            "evaluation": {"samples_per_prompt": 0, "prompts_per_batch": 8, "max_new_tokens": 4},
            "checkpoint": {"every_steps": 10_000},
            "reporting": {"writers": ("jsonl",)},
            "checks": {"example": False, "ends": False},
            "asynchronous": {"max_staleness": staleness},
            STAGE: {
                "method": "aipo",
                "steps": settings.steps,
                "batch": {
                    "prompts_per_step": settings.prompts,
                    "samples_per_prompt": settings.samples,
                },
                "sampling": {"max_new_tokens": settings.new_tokens},
                "objective": {"entropy_weight": 0.01},  # no letter is given up
                "optimizer": {"learning_rate": 5e-3},
            },
        }
    )
    return apply_overrides(config, settings.overrides)


def step_seconds(workdir: Path) -> list[float]:
    """Wall seconds of each step: its phases, without those that lay beside it."""
    return [
        sum(
            value
            for name, value in row.items()
            if name not in ("stage", "step", "kind", "tokens_per_second")
            and not name.startswith(BESIDE)
        )
        for row in read_rows(workdir / TIMING_FILE)
        if "update" in row
    ]


def learned(workdir: Path) -> dict[str, Any]:
    """The learning curve of a run, and how old its tokens were."""
    rows = [row for row in read_rows(workdir / METRICS_FILE) if row["kind"] == "train"]
    shares = [name for name in rows[-1] if name.startswith("staleness_share/")]
    return {
        "rewards": [row["reward"] for row in rows],
        "staleness": {
            name.split("/")[1]: statistics.fmean(row[name] for row in rows) for name in shares
        },
    }


def train(folder: Path, name: str, config: ConfigDict) -> Path:
    """Runs a config quietly; returns its workdir."""
    loop.run(config, folder / name, Console(file=io.StringIO()))
    return folder / name


def time_ahead(settings: Settings, *, staleness: int = 1) -> dict[str, Any]:
    """Times runs whose verifier takes as long as sampling and updating together.

    How long that is, is measured first, on a run whose verifier does not wait.

    Args:
        settings: sizes; `steps` of each run.
        staleness: of the run ahead.

    Returns:
        A JSON-able report; "ratio" is the step time ahead / in turn, medians without the first
        steps.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short = dataclasses.replace(settings, steps=UNTIMED + 15)
        alone = _median(train(folder, "alone", copy_config(folder, short)))
        wait = alone * WORKERS / (settings.prompts * settings.samples)
        lags = {"in turn": 0, "ahead": staleness}
        runs = {
            kind: train(
                folder,
                kind.replace(" ", "-"),
                copy_config(folder, settings, seconds=wait, staleness=lag),
            )
            for kind, lag in lags.items()
        }
        seconds = {kind: _median(workdir) for kind, workdir in runs.items()}
        curves = {kind: learned(workdir) for kind, workdir in runs.items()}
        shape = json.loads((runs["ahead"] / "config.json").read_text())
    return {
        "benchmark": "ahead",
        "settings": {**dataclasses.asdict(settings), "overrides": list(settings.overrides)},
        "model": shape["network"],
        "mesh": shape["mesh"],
        "staleness": staleness,
        "seconds_without_waiting": alone,
        "verifier_seconds_per_sample": wait,
        "seconds_per_step": seconds,
        "ratio": seconds["ahead"] / seconds["in turn"],
        "runs": curves,
        "machine": machine(len(jax.devices()), measured_rate("float32")),
    }


def _median(workdir: Path) -> float:
    return statistics.median(step_seconds(workdir)[UNTIMED:])
