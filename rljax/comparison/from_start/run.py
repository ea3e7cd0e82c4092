"""The runs of a study: one warm-up, and each method from it with every seed."""

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ml_collections import ConfigDict

from rljax.comparison.from_start.study import UNTRAINED, WARMUP, Study
from rljax.comparison.from_start.table import as_markdown, ended_with
from rljax.config.load import complete, shorten
from rljax.errors import unknown_name
from rljax.training.judged import judge
from rljax.training.loop import run
from rljax.training.run.lock import locked
from rljax.training.run.workdir import make_folder

DECODED = "decoded.json"


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a command was asked for; see `launch/latent.py`."""

    task: str
    methods: tuple[str, ...]
    seeds: int
    workdir: Path
    smoke: bool = False


def asked_for(study: Study, options: argparse.Namespace) -> Asked:
    """What the flags of a study's command ask for.

    Args:
        study: whose methods are run where none are named.
        options: with `task`, `methods`, `seeds`, `workdir` and `smoke`.
    """
    seeds = min(options.seeds, 2) if options.smoke else options.seeds
    methods = options.methods or tuple(study.methods)
    return Asked(options.task, methods, seeds, options.workdir, options.smoke)


def run_table(study: Study, asked: Asked, told: Callable[[str], None]) -> str:
    """Runs what is missing, and writes WORKDIR/table.md and table.json.

    Seeds are run one after the other, so an interrupted command has all methods of the first ones.

    Returns:
        The table.

    Raises:
        ValueError: for an unknown task or method, or a workdir with runs of another task or size,
            before anything runs.
    """
    if asked.task not in study.tasks:
        raise unknown_name("task", asked.task, study.tasks, "--task")
    for method in asked.methods:
        if method not in study.methods:
            raise unknown_name("method", method, study.methods, "--methods")
    data = asked.workdir / "data"
    make_folder(asked.workdir)
    with locked(asked.workdir):
        _check_same(asked)
        study.prepare(asked.task, data)
        warmup, config = asked.workdir / WARMUP, study.warmup_config(asked.task, data)
        ends: dict[str, list[dict[str, float]]] = {}
        if study.shows_untrained:
            ends[UNTRAINED] = [_untrained(study, asked, config)] * asked.seeds
        _run(study, asked, config, warmup, told)
        ends[WARMUP] = [_measures(study, warmup)] * asked.seeds
        start = warmup / "checkpoints" / study.start
        for seed in range(asked.seeds):
            for method in asked.methods:
                folder = asked.workdir / f"{method}-{seed}"
                config = study.method_config(asked.task, method, data, start, seed)
                _run(study, asked, config, folder, told)
                ends.setdefault(method, []).append(_measures(study, folder))
        names = list(ends[WARMUP][0])
        found = {
            method: {name: [one[name] for one in each] for name in names}
            for method, each in ends.items()
        }
        table = as_markdown(study, asked.task, found)
        (asked.workdir / "table.md").write_text(table)
        (asked.workdir / "table.json").write_text(json.dumps(found, indent=1) + "\n")
    return table


def _measures(study: Study, folder: Path) -> dict[str, float]:
    """What a finished run ended with, under its own decoding and under others."""
    decoded = json.loads((folder / DECODED).read_text()) if study.decodings else {}
    return ended_with(study, folder) | decoded


def _untrained(study: Study, asked: Asked, config: ConfigDict) -> dict[str, float]:
    """What the network of the warm-up says before it has learnt anything."""
    path = asked.workdir / f"{UNTRAINED}.json"
    if not path.exists():
        whole = _whole(asked, config)
        values = {**dict.fromkeys(study.measures, math.nan), **_known(study, judge(whole))}
        path.write_text(json.dumps(values | _decoded(study, whole)) + "\n")
    return json.loads(path.read_text())


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
    study: Study, asked: Asked, config: ConfigDict, folder: Path, told: Callable[[str], None]
) -> None:
    """One run and its evaluation under other decodings, unless they are finished."""
    whole = _whole(asked, config)
    began = time.perf_counter()
    if not (folder / "summary.json").exists():
        run(whole, folder)
        told(f"{folder.name}: {time.perf_counter() - began:.0f} s")
    if study.decodings and not (folder / DECODED).exists():
        trained = whole.copy_and_resolve_references()
        trained.model.init_from = str(folder / "checkpoints" / whole.stages[-1])
        (folder / DECODED).write_text(json.dumps(_decoded(study, trained)) + "\n")


def _decoded(study: Study, config: ConfigDict) -> dict[str, float]:
    """METRIC@DECODING -> value, of a config's model."""
    found = {}
    for name, overrides in study.decodings.items():
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict(dict(overrides))
        values = _known(study, judge(changed, stage=config.stages[-1]))
        found |= {f"{metric}@{name}": value for metric, value in values.items()}
    return found


def _known(study: Study, values: Mapping[str, float]) -> dict[str, float]:
    return {name: values[name] for name in study.measures if name in values}


def _whole(asked: Asked, config: ConfigDict) -> ConfigDict:
    """The config with all of its fields, and shortened for a smoke run."""
    whole = complete(config.to_dict())
    if asked.smoke:
        shorten(whole)
    return whole
