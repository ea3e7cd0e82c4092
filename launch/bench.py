"""Times training: `python launch/bench.py step|update [--prompts=8] [--json=FILE] [...]`.

step    a whole GRPO step: tokenising, sampling, decoding to text, reward, advantages, moving rows
        to the device, all updates; without logging, evaluation and checkpoints
update  the updates of a step alone, with each prompt computed once and with it computed for every
        sample

--prompts=8 --samples=8 --prompt-tokens=64 --new-tokens=64   sizes of a step
--steps=5             timed steps; medians are reported
--preset=NAME         a published shape (rljax/models/presets.py), with random weights; by
                      default a small Qwen3 shape: 6 layers, width 384, 4096 tokens, float32
--json=FILE           also writes the report there
--config.a.b=VALUE    a field of the training config, e.g. --config.model.dtype=bfloat16,
                      --config.model.remat=dots, --config.mesh.fsdp=8,
                      --config.grpo.batch.sequences_per_micro_batch=16

By default a micro-batch of the small shape holds the samples of two prompts, so that its
activations stay in the caches of a CPU; that of a preset is the whole step. Set it for other
machines. The stage is called grpo, and may be of any method that learns from rewards of samples.
"""

import json
import os
import sys
from pathlib import Path

USAGE = "usage: python launch/bench.py step|update [--prompts=8] [--json=FILE] [...]; see --help"
NUMBERS = ("prompts", "samples", "prompt-tokens", "new-tokens", "steps")


def parse(arguments: list[str]) -> tuple[str, dict, Path | None]:
    """Which benchmark, the fields of its settings, and where the report goes.

    Raises:
        ValueError: for anything that is not in the docstring above.
    """
    if not arguments or arguments[0] not in ("step", "update"):
        raise ValueError(f"the first word must be step or update, got {arguments[:1]}; {USAGE}")
    settings: dict = {"overrides": []}
    path = None
    for word in arguments[1:]:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--config."):
            settings["overrides"].append(word)
        elif not word.startswith("--") or not equals or not value:
            raise ValueError(f"cannot read {word!r}: arguments are --name=value; {USAGE}")
        elif name == "json":
            path = Path(value)
        elif name == "preset":
            settings["preset"] = value
        elif name in NUMBERS and value.isdecimal():
            settings[name.replace("-", "_")] = int(value)
        elif name in NUMBERS:
            raise ValueError(f"--{name} must be a whole number, got {value!r} (--{name})")
        else:
            known = ", ".join(f"--{name}" for name in (*NUMBERS, "preset", "json", "config.a.b"))
            raise ValueError(f"unknown argument --{name}; known: {known} (--{name})")
    settings["overrides"] = tuple(settings["overrides"])
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"there is no folder {str(path.parent)!r} for the report (--json)")
    return arguments[0], settings, path


def main(arguments: list[str]) -> None:
    """Times and prints; whatever is wrong ends with one message and status 1."""
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return
    try:
        benchmark, fields, path = parse(arguments)
        # Imported late, so that the above is instant.
        from rich.console import Console

        from rljax.benchmarks.table import print_report
        from rljax.benchmarks.timing import time_step, time_updates
        from rljax.benchmarks.workload import Settings

        run = {"step": time_step, "update": time_updates}[benchmark]
        report = run(Settings(**fields))
    except ValueError as error:
        if os.environ.get("RLJAX_TRACEBACK"):
            raise
        raise SystemExit(f"error: {error}") from None
    if path is not None:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    console = Console()
    print_report(report, console if console.is_terminal else Console(width=120))


if __name__ == "__main__":
    main(sys.argv[1:])
