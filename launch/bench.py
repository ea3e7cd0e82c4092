"""Times training: `python launch/bench.py sample|step|update|evolution [--prompts=8] [...]`.

sample  the sampler alone, from token ids to token ids, beside the bounds that the rates of matrix
        products and of memory set, and beside other programs
step    a whole GRPO step: tokenising, sampling, decoding to text, reward, advantages, moving rows
        to the device, all updates; without logging, evaluation and checkpoints
update  the updates of a step alone, with each prompt computed once and with it computed for every
        sample
evolution  the passes and the answers of a population of prompts x samples members, each with
        low-rank noise of its own, beside the same rows without noise

--prompts=8 --samples=8 --prompt-tokens=64 --new-tokens=64   sizes of a step
--steps=5             timed steps; medians are reported
--preset=NAME         a published shape (rljax/models/presets.py), with random weights; by
                      default a small Qwen3 shape: 6 layers, width 384, 4096 tokens, float32
--json=FILE           also writes the report there
--config.a.b=VALUE    a field of the training config, e.g. --config.model.dtype=bfloat16,
                      --config.model.remat=dots, --config.mesh.fsdp=8,
                      --config.grpo.batch.sequences_per_micro_batch=16

With sample also:
--peer=NAME:COMMAND   another program (launch/peers/), run in alternation with ours; what it prints
                      last as "N tok/s" is compared. {prompts} {samples} {prompt_tokens}
                      {new_tokens} stand for sizes
--rounds=3            of ours (--steps calls) and all peers
--tail=0.25           lengths from a geometric law with this share of --new-tokens as mean
--without-refill      with --tail and --config.sampler.slots: also without refill

By default a micro-batch of the small shape holds the samples of two prompts, so that its
activations stay in the caches of a CPU; that of a preset is the whole step. Set it for other
machines. The stage is called grpo, and may be of any method that learns from rewards of samples.
"""

import json
import os
import sys
from pathlib import Path

USAGE = (
    "usage: python launch/bench.py sample|step|update|evolution [--prompts=8] [--json=FILE] [...]; "
    "see --help"
)
BENCHMARKS = ("sample", "step", "update", "evolution")
NUMBERS = ("prompts", "samples", "prompt-tokens", "new-tokens", "steps")


def parse(arguments: list[str]) -> tuple[str, dict, dict, Path | None]:
    """Which benchmark, the fields of its settings, what only `sample` reads, and the report's file.

    Raises:
        ValueError: for anything that is not in the docstring above.
    """
    if not arguments or arguments[0] not in BENCHMARKS:
        known = ", ".join(BENCHMARKS[:-1]) + f" or {BENCHMARKS[-1]}"
        raise ValueError(f"the first word must be {known}, got {arguments[:1]}; {USAGE}")
    settings: dict = {"overrides": []}
    of_sample: dict = {"peers": []}
    path = None
    for word in arguments[1:]:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--config."):
            settings["overrides"].append(word)
        elif word == "--without-refill":
            of_sample["without_refill"] = True
        elif not word.startswith("--") or not equals or not value:
            raise ValueError(f"cannot read {word!r}: arguments are --name=value; {USAGE}")
        elif name == "json":
            path = Path(value)
        elif name == "preset":
            settings["preset"] = value
        elif name == "peer":
            of_sample["peers"].append(_peer(value))
        elif name in (*NUMBERS, "rounds"):
            place = of_sample if name == "rounds" else settings
            place[name.replace("-", "_")] = _whole(name, value)
        elif name == "tail":
            of_sample["tail"] = _share(name, value)
        else:
            names = (*NUMBERS, "preset", "json", "config.a.b", "peer", "rounds", "tail")
            known = ", ".join(f"--{name}" for name in names)
            raise ValueError(f"unknown argument --{name}; known: {known} (--{name})")
    settings["overrides"] = tuple(settings["overrides"])
    if arguments[0] != "sample" and of_sample != {"peers": []}:
        raise ValueError("--peer, --rounds, --tail and --without-refill are read by sample only")
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"there is no folder {str(path.parent)!r} for the report (--json)")
    return arguments[0], settings, of_sample, path


def _whole(name: str, value: str) -> int:
    if not value.isdecimal():
        raise ValueError(f"--{name} must be a whole number, got {value!r} (--{name})")
    return int(value)


def _share(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"--{name} must be a number, got {value!r} (--{name})") from None


def _peer(value: str) -> tuple[str, str]:
    name, colon, command = value.partition(":")
    if not (name and colon and command):
        raise ValueError(f"--peer must be NAME:COMMAND, got {value!r} (--peer)")
    return name, command


def main(arguments: list[str]) -> None:
    """Times and prints; whatever is wrong ends with one message and status 1."""
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return
    try:
        benchmark, fields, of_sample, path = parse(arguments)
        # Imported late, so that the above is instant.
        from rich.console import Console

        from rljax.benchmarks.evolution import time_evolution
        from rljax.benchmarks.sampling import Tails, time_sampling
        from rljax.benchmarks.table import print_report
        from rljax.benchmarks.timing import time_step, time_updates
        from rljax.benchmarks.workload import Settings

        settings = Settings(**fields)
        if benchmark == "sample":
            tails = Tails(
                mean=of_sample.get("tail", 0.0), compare=of_sample.get("without_refill", False)
            )
            report = time_sampling(settings, tails, of_sample["peers"], of_sample.get("rounds", 1))
        else:
            functions = {"step": time_step, "update": time_updates, "evolution": time_evolution}
            report = functions[benchmark](settings)
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
