"""Times training.

    python launch/bench.py NAME [--json=FILE] [...]

with one of these names:

sample  the sampler alone, from token ids to token ids, beside the bounds that the rates of matrix
        products and of memory set, and beside other programs
batch-size  the sampler for 1, 2, 4, ... prompts up to --prompts: how its time grows, and the batch
        from which on it is in proportion; beside one pass over --candidates times as many prompts,
        to choose among them
step    a whole GRPO step: tokenising, sampling, decoding to text, reward, advantages, moving rows
        to the device, all updates; without logging, evaluation and checkpoints
update  the updates of a step alone, with each prompt computed once and with it computed for every
        sample
evolution  the passes and the answers of a population of prompts x samples members, each with
        low-rank noise of its own, beside the same rows without noise
ahead   whole runs on a task of letters whose verifier waits as long as everything else takes: in
        turn, and with the sampler ahead by --staleness; step times and both learning curves
dpo     a whole step of DPO on --prompts pairs of a file: reading, the reference's pass, the update;
        beside other programs
diffusion  canvases that a masked diffusion model fills, beside published code, and the memory of
        its gradient for several numbers of draws of masks
serve   a server that --prompts clients keep busy, beside the generator on the same requests, and
        its latencies; needs the extra serve

Lengths of --peer's commands stand in braces: {prompts} {samples} {prompt_tokens} {new_tokens}. What
such a program prints last as "N tok/s" is compared.

By default a micro-batch of the small shape holds the samples of two prompts, so that its
activations stay in the caches of a CPU; that of a preset is the whole step. Set it for other
machines. The stage is called grpo, and may be of any method that learns from rewards of samples.
"""

import argparse
import json
import sys

from rljax.commands.parser import Parser, number, path, whole
from rljax.commands.paths import check_file
from rljax.commands.run import run

BENCHMARKS = ("sample", "batch-size", "step", "update", "evolution", "ahead", "dpo", "diffusion")
BENCHMARKS += ("serve",)

# Flags that are fields of `Settings`, where they are given.
SETTINGS = ("prompts", "samples", "prompt_tokens", "new_tokens", "steps", "preset")
WITH_TAIL = ("sample", "batch-size")
BESIDE_PEERS = ("sample", "dpo")
# Sizes that the task of `ahead` has by itself, and those that it is timed with by default.
NOT_AHEAD, AHEAD = ("prompt_tokens", "preset"), {"new_tokens": 8, "steps": 90}
SERVE = {"prompts": 64, "steps": 3}


def peer(text: str) -> tuple[str, str]:
    """NAME:COMMAND of a program to compare with."""
    name, colon, command = text.partition(":")
    if not (name and colon and command):
        raise argparse.ArgumentTypeError(f"must be NAME:COMMAND, got {text!r}")
    return name, command


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__, overrides=True)
    made.add_argument("benchmark", choices=BENCHMARKS, help="what is timed")
    add = made.add_argument_group("sizes of a step").add_argument
    add("--prompts", type=whole(1), metavar="N", help="prompts of a step (8)")
    add("--samples", type=whole(1), metavar="N", help="samples of each prompt (8)")
    add("--prompt-tokens", type=whole(1), metavar="N", help="tokens of a prompt (64)")
    add("--new-tokens", type=whole(1), metavar="N", help="tokens of a sample (64)")
    add("--steps", type=whole(1), metavar="N", help="timed steps; medians are reported (5)")
    add(
        "--preset",
        metavar="NAME",
        help="a published shape (rljax/models/presets.py) with random weights; by default a small "
        "Qwen3 shape: 6 layers, width 384, 4096 tokens, float32",
    )
    made.add_argument("--json", type=path, metavar="FILE", help="also writes the report there")
    add = made.add_argument_group("with sample and dpo").add_argument
    add(
        "--peer",
        type=peer,
        action="append",
        default=[],
        metavar="NAME:COMMAND",
        help="another program (launch/peers/), run in alternation with ours; may be repeated",
    )
    add("--rounds", type=whole(1), metavar="N", help="of ours (--steps calls) and all peers (1)")
    add = made.add_argument_group("with sample; --tail with batch-size too").add_argument
    add(
        "--tail",
        type=number(0.0, 1.0),
        metavar="SHARE",
        help="lengths from a geometric law with this share of --new-tokens as mean",
    )
    add(
        "--without-refill",
        action="store_true",
        help="with --tail and --config.sampler.slots: also without refill",
    )
    add = made.add_argument_group("with batch-size").add_argument
    add("--candidates", type=whole(1), metavar="K", help="prompts read for each one sampled (1)")
    add = made.add_argument_group("with ahead").add_argument
    add("--staleness", type=whole(1), metavar="N", help="steps that the sampler is ahead (1)")
    return made


def bench(options: argparse.Namespace) -> None:
    """Times and prints."""
    if options.benchmark != "sample" and options.without_refill:
        raise ValueError("--without-refill is read by sample only")
    if options.benchmark not in WITH_TAIL and options.tail:
        raise ValueError(f"--tail is read by {' and '.join(WITH_TAIL)} only")
    if options.benchmark != "batch-size" and options.candidates:
        raise ValueError("--candidates is read by batch-size only")
    if options.benchmark not in BESIDE_PEERS and (options.peer or options.rounds):
        raise ValueError(f"--peer and --rounds are read by {' and '.join(BESIDE_PEERS)} only")
    if options.benchmark == "dpo" and options.samples:
        raise ValueError("--samples is not read by dpo: a pair has two sides")
    if options.benchmark == "serve" and options.samples:
        raise ValueError("--samples is not read by serve: a request has one")
    if options.benchmark == "ahead":
        if any(getattr(options, name) for name in NOT_AHEAD):
            raise ValueError(
                "--prompt-tokens and --preset are not read by ahead: its task has both"
            )
    elif options.staleness:
        raise ValueError("--staleness is read by ahead only")
    if options.json is not None:
        check_file(options.json, "--json")
    # Imported late, so that the above is instant.
    from rich.console import Console

    from rljax.benchmarks.ahead import time_ahead
    from rljax.benchmarks.batch_size import time_batch_sizes
    from rljax.benchmarks.diffusion import time_diffusion
    from rljax.benchmarks.evolution import time_evolution
    from rljax.benchmarks.pairs import time_pairs
    from rljax.benchmarks.sampling import Tails, time_sampling
    from rljax.benchmarks.serving import time_serving
    from rljax.benchmarks.table import print_report
    from rljax.benchmarks.timing import time_step, time_updates
    from rljax.benchmarks.workload import Settings

    given = {name: getattr(options, name) for name in SETTINGS}
    fields = {name: value for name, value in given.items() if value is not None}
    if options.benchmark == "ahead":
        fields = AHEAD | fields
    if options.benchmark == "serve":
        fields = SERVE | fields
    settings = Settings(**fields, overrides=options.overrides)
    if options.benchmark == "sample":
        tails = Tails(mean=options.tail or 0.0, compare=options.without_refill)
        report = time_sampling(settings, tails, options.peer, options.rounds or 1)
    elif options.benchmark == "batch-size":
        tails = Tails(mean=options.tail or 0.0)
        report = time_batch_sizes(settings, tails, options.candidates or 1)
    elif options.benchmark == "dpo":
        report = time_pairs(settings, options.peer, options.rounds or 1)
    elif options.benchmark == "ahead":
        report = time_ahead(settings, staleness=options.staleness or 1)
    else:
        functions = {"step": time_step, "update": time_updates}
        functions |= {"evolution": time_evolution, "diffusion": time_diffusion}
        functions["serve"] = time_serving
        report = functions[options.benchmark](settings)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    console = Console()
    print_report(report, console if console.is_terminal else Console(width=120))


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), bench, arguments)


if __name__ == "__main__":
    sys.exit(main())
