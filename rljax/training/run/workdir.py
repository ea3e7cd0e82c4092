"""The files of a run, and whether a workdir belongs to a config.

config.json      the resolved config          run.json       its hash, versions, devices
metrics.jsonl    reproducible numbers         timing.jsonl   seconds
rollouts/        samples for the report       checkpoints/   one folder per stage
summary.json     final figures                report.html    the report
"""

import datetime
import json
from pathlib import Path
from typing import Any

from rljax.config.identity import config_hash, differing_fields, environment
from rljax.reporting.files import write_json_atomic

# What may differ between a run and its continuation: how it is shown, not what is computed.
FREE_FIELDS = ("reporting", "checks", "checkpoint", "scoring.workers", "scoring.timeout_seconds")


def default_workdir(name: str) -> Path:
    """runs/NAME-DATE-TIME."""
    return Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def claim_workdir(workdir: Path, resolved: dict[str, Any]) -> None:
    """Marks a workdir as this config's, or checks that it already is.

    Raises:
        ValueError: if it belongs to another config; the differing fields are listed.
    """
    path = workdir / "config.json"
    if path.exists():
        stored = json.loads(path.read_text())
        lines = [
            line
            for line in differing_fields(stored, resolved)
            if not line.removeprefix("config.").startswith(FREE_FIELDS)
        ]
        if lines:
            listed = "\n  ".join(lines)
            raise ValueError(
                f"{workdir} belongs to another config (stored -> given):\n  {listed}\n"
                "Give the stored values to continue it, or another --workdir."
            )
        return
    workdir.mkdir(parents=True, exist_ok=True)
    write_json_atomic(workdir / "run.json", {"config_hash": config_hash(resolved), **environment()})
    write_json_atomic(path, resolved)
