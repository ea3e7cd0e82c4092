"""The runs of a latent table: a warm-up for each seed, and each method from it."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from rljax.comparison.latent.methods import METHODS, method_config, warmup_config
from rljax.comparison.latent.problems import ANSWER_TOKENS, write_problems
from rljax.comparison.latent.table import MEASURES, as_markdown, ended_with
from rljax.config.load import complete, shorten
from rljax.errors import unknown_name
from rljax.training.loop import run
from rljax.training.run.lock import locked
from rljax.training.run.workdir import make_folder

WARMUP = "warmup"


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the command was asked for; see `launch/latent.py`."""

    task: str
    methods: tuple[str, ...]
    seeds: int
    workdir: Path
    smoke: bool = False


def run_table(asked: Asked, told: Callable[[str], None]) -> str:
    """Runs what is missing, and writes WORKDIR/table.md and table.json.

    Returns:
        The table.

    Raises:
        ValueError: for an unknown task or method, or a workdir with runs of another task or size,
            before anything runs.
    """
    if asked.task not in ANSWER_TOKENS:
        raise unknown_name("task", asked.task, ANSWER_TOKENS, "--task")
    for method in asked.methods:
        if method not in METHODS:
            raise unknown_name("method", method, METHODS, "--methods")
    data = asked.workdir / "data"
    make_folder(asked.workdir)
    with locked(asked.workdir):
        _check_same(asked)
        write_problems(data, asked.task)
        found = {name: {measure: [] for measure in MEASURES} for name in (WARMUP, *asked.methods)}
        for seed in range(asked.seeds):
            for name in found:
                folder = asked.workdir / f"{name}-{seed}"
                _run(asked, name, data, seed, folder, told)
                for measure, value in ended_with(folder).items():
                    found[name][measure].append(value)
        table = as_markdown(asked.task, found)
        (asked.workdir / "table.md").write_text(table)
        (asked.workdir / "table.json").write_text(json.dumps(found, indent=1) + "\n")
    return table


def _check_same(asked: Asked) -> None:
    """Writes down what the runs of the workdir share; refuses others, which would be mixed up."""
    path, shared = asked.workdir / "asked.json", {"task": asked.task, "smoke": asked.smoke}
    before = json.loads(path.read_text()) if path.exists() else shared
    if before != shared:
        raise ValueError(
            f"{asked.workdir} holds runs of task={before['task']!r}, smoke={before['smoke']}, and "
            f"task={asked.task!r}, smoke={asked.smoke} was asked for: give another folder "
            "(--workdir, --task, --smoke)."
        )
    path.write_text(json.dumps(shared) + "\n")


def _run(
    asked: Asked, name: str, data: Path, seed: int, folder: Path, told: Callable[[str], None]
) -> None:
    """One run, unless it is finished."""
    if (folder / "summary.json").exists():
        return
    if name == WARMUP:
        config = warmup_config(asked.task, data, seed)
    else:
        start = asked.workdir / f"{WARMUP}-{seed}" / "checkpoints" / "habit"
        config = method_config(asked.task, name, data, start, seed)
    config = _whole(config, asked.smoke)
    began = time.perf_counter()
    run(config, folder)
    told(f"{name}, seed {seed}: {time.perf_counter() - began:.0f} s")


def _whole(config: ConfigDict, smoke: bool) -> ConfigDict:
    whole = complete(config.to_dict())
    if smoke:
        shorten(whole)
    return whole
