"""Evaluates a checkpoint or a published model on the held-out problems of a config.

    python launch/evaluate.py --checkpoint=WORKDIR[/checkpoints/STAGE[/STEP]] --config=FILE[:ARG]
    python launch/evaluate.py --model=FOLDER --config=FILE[:ARG] --out=FILE --samples=FILE

What training would report: accuracy of greedy decoding, pass@k and majority@k of
config.evaluation.samples_per_prompt samples, mean length. The figures are printed as JSON. A
checkpoint brings its tokenizer and the seed of its run, so that its figures are those of the run.
A line of --samples holds a problem with its greedy completion and the samples, each with its text,
its number of tokens, its reward, and whether it counts as right; null where no reward applies.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rljax.commands.parser import Parser, named, path
from rljax.commands.paths import check_file
from rljax.commands.run import run
from rljax.processes.identity import check_alone


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__, overrides=True)
    either = made.add_mutually_exclusive_group(required=True)
    either.add_argument("--checkpoint", type=path, metavar="DIR", help="a run, or a part of it")
    either.add_argument("--model", type=path, metavar="DIR", help="a Hugging Face folder")
    add = made.add_argument
    add(
        "--config",
        type=named,
        required=True,
        metavar="FILE[:ARG]",
        help="says the problems, the rewards and how to sample (data, scoring, evaluation)",
    )
    add("--out", type=path, metavar="FILE", help="also writes the figures there, as JSON")
    add("--samples", type=path, metavar="FILE", help="writes every completion, as JSON lines")
    add("--overwrite", action="store_true", help="replace --out and --samples if they exist")
    return made


class Lines:
    """The completions of each problem, as JSON lines."""

    def __init__(self) -> None:
        self.problems: dict[int, dict[str, Any]] = {}

    def __call__(self, samples: Any, scores: Any, problems: int) -> None:
        """Takes a batch of an `Evaluator` (rljax/training/evaluation.py), greedy ones first."""
        group, lengths = samples.samples_per_prompt, samples.flat("mask").sum(axis=1)
        for place in range(problems):
            record, prompt = samples.records[place], samples.prompt_texts[place]
            known = record["id"] in self.problems
            line = self.problems.setdefault(
                record["id"], {"id": record["id"], "prompt": prompt, "problem": plain(record)}
            )
            line["samples" if known else "greedy"] = [
                {
                    "text": samples.texts[row],
                    "tokens": int(lengths[row]),
                    "reward": None if scores.left_out[row] else float(scores.total[row]),
                    "correct": bool(scores.correct[row]) if scores.judged[row] else None,
                    "failed": bool(scores.failed[row]),
                }
                for row in range(place * group, (place + 1) * group)
            ]

    def text(self) -> str:
        """All lines, in the order of the problems."""
        lines = (json.dumps(line, ensure_ascii=False) for line in self.problems.values())
        whole = "".join(f"{line}\n" for line in lines)
        # Completions in bytes may hold half a surrogate pair, which UTF-8 cannot.
        return whole.encode("utf-8", "replace").decode("utf-8")


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a problem that JSON knows, without its number and its demonstration."""
    left_out = ("id", "prompt", "demonstration")
    found = {}
    for name, value in record.items():
        if name not in left_out:
            found[name] = json.loads(json.dumps(value, default=str))
    return found


def evaluate(options: argparse.Namespace) -> None:
    """Checks, samples, scores and prints."""
    check_alone("launch/evaluate.py", os.environ)
    for flag in ("out", "samples"):
        file = getattr(options, flag)
        if file is not None:
            check_file(file, f"--{flag}", overwrite=options.overwrite)
    # Imported late, so that wrong words are answered at once.
    from rljax.reporting.files import json_text, write_text_atomic
    from rljax.training.judged import config_of_model, config_of_run, judge

    stage = ""
    if options.checkpoint is not None:
        config = config_of_run(options.config, options.checkpoint, options.overrides)
        stage = Path(config.model.init_from).parent.name  # WORKDIR/checkpoints/STAGE/STEP
    else:
        config = config_of_model(options.config, options.model, options.overrides)
    lines = Lines()
    figures = {
        "model": config.model.init_from,
        "config": options.config,
        **judge(config, lines, stage),
    }
    text = json_text(figures)
    print(text, end="")
    if options.out is not None:
        write_text_atomic(options.out, text)
    if options.samples is not None:
        write_text_atomic(options.samples, lines.text())


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), evaluate, arguments)


if __name__ == "__main__":
    sys.exit(main())
