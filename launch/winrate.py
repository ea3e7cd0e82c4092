"""How often one set of completions is preferred to another one, with its interval.

    python launch/winrate.py FIRST.jsonl SECOND.jsonl --by=reward
    python launch/winrate.py FIRST.jsonl SECOND.jsonl --reward-model=DIR --out=figures.json
    python launch/winrate.py FIRST.jsonl SECOND.jsonl --judge=DIR

A line of a file holds a prompt with its completions, as launch/generate.py --out or
launch/evaluate.py --samples writes them, or one `completion`. Lines are brought together by their
`id`, else by their place. FIRST wins where it is preferred:

    --by=reward         the higher reward that the files hold (those of evaluate.py do)
    --reward-model=DIR  the higher score of a reward model
    --judge=DIR         what a language model answers that reads both, in both orders; where it goes
                        by the place alone, that is a tie

DIR is a published folder, or WORKDIR[/checkpoints/STAGE[/STEP]] of a run. The interval of the win
rate is Wilson's, over prompts. The length-controlled win rate is what a logistic regression
expects of completions of equal length, with a bootstrap interval. The figures are printed as JSON.
"""

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

from rljax.commands.parser import Parser, path
from rljax.commands.paths import check_file
from rljax.commands.run import run
from rljax.processes.identity import check_alone


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument
    add("first", type=path, metavar="FIRST", help="JSON lines")
    add("second", type=path, metavar="SECOND", help="JSON lines, of the same prompts")
    either = made.add_mutually_exclusive_group(required=True)
    either.add_argument("--by", choices=("reward",), help="what the files say themselves")
    either.add_argument("--reward-model", type=path, metavar="DIR", help="scores each completion")
    either.add_argument("--judge", type=path, metavar="DIR", help="reads both completions")
    add("--of", default="greedy", choices=("greedy", "samples"), help="of evaluate.py's files")
    add("--tie-margin", type=float, default=0.0, metavar="X", help="scores as near as this tie (0)")
    add("--question", type=path, metavar="FILE", help="of the judge: {prompt}, {first}, {second}")
    add("--answers", default="A,B", metavar="X,Y", help="of the judge, one token each (A,B)")
    add("--tokenizer", default="", metavar="DIR", help="a folder, or byte (the model's own)")
    add("--dtype", default="float32", choices=("float32", "bfloat16"), help="of a published model")
    add("--out", type=path, metavar="FILE", help="also writes the figures there, as JSON")
    add("--overwrite", action="store_true", help="replace --out if it exists")
    return made


def check_flags(options: argparse.Namespace) -> None:
    """Raises ValueError for flags that are never read."""
    if options.judge is None and (options.question is not None or options.answers != "A,B"):
        raise ValueError("only a judge is asked a question (--question, --answers, --judge)")
    if options.judge is not None and options.tie_margin:
        raise ValueError("a judge gives no scores that could be near (--tie-margin, --judge)")
    if options.by is not None and (options.tokenizer or options.dtype != "float32"):
        raise ValueError("no model is read with --by=reward (--tokenizer, --dtype, --by)")
    if not 0 <= options.tie_margin < math.inf:
        raise ValueError(f"must be a number >= 0, got {options.tie_margin} (--tie-margin)")


def load(folder: Path, options: argparse.Namespace, flag: str) -> tuple[Any, Any]:
    """A model and the mesh that it is on, one replica of it on each device."""
    from rljax.parallel.mesh import make_mesh
    from rljax.training.run.loaded import load_folder

    mesh = make_mesh({"data": -1})
    return load_folder(folder, options.tokenizer, options.dtype, mesh, flag), mesh


def win_rate(options: argparse.Namespace) -> None:
    """Checks, asks who is preferred, and prints."""
    check_alone("launch/winrate.py", os.environ)
    check_flags(options)
    if options.out is not None:
        check_file(options.out, "--out", overwrite=options.overwrite)
    # Imported late, so that wrong words are answered at once.
    from rljax.reporting.files import json_text, write_text_atomic
    from rljax.training.win_rate import preferences
    from rljax.training.win_rate.completions import read_completions
    from rljax.training.win_rate.figures import win_rate_figures

    compared, more = read_completions(options.first, options.second, options.of), {}
    if options.judge is not None:
        model, mesh = load(options.judge, options, "--judge")
        words = {"answers": tuple(options.answers.split(","))}
        if options.question is not None:
            words["question"] = options.question.read_text(encoding="utf-8")
        outcomes, more = preferences.judged_outcomes(compared, model, mesh, **words)
    else:
        if options.reward_model is not None:
            model, mesh = load(options.reward_model, options, "--reward-model")
            scores = preferences.scores_of_model(compared, model, mesh)
        else:
            scores = preferences.rewards_of_files(compared)
        outcomes = preferences.outcomes_of_scores(scores, options.tie_margin)
        more = {"mean_scores": [float(each) for each in scores.mean(axis=(0, 1))]}
    names = {"first": str(options.first), "second": str(options.second)}
    text = json_text({**names, **win_rate_figures(outcomes, compared.lengths), **more})
    print(text, end="")
    if options.out is not None:
        write_text_atomic(options.out, text)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), win_rate, arguments)


if __name__ == "__main__":
    sys.exit(main())
