r"""Search at test time: what samples, votes, beams and further attempts buy, and what they cost.

    python launch/search.py --checkpoint=WORKDIR --config=FILE[:ARG] --strategies=vote,sequential
    python launch/search.py --model=FOLDER --config=FILE[:ARG] --scorer=DIR \
        --strategies=vote,weighted_vote,best_of_n,beam,lookahead --budgets=4,16,64 --out=FILE

Of each held-out problem of the config as many completions are sampled as the largest budget. A
strategy chooses an answer at each budget:

    vote            the most frequent answer
    weighted_vote   the answer with the largest sum of sigmoid(score of the model)
    best_of_n       the completion that the model scores highest
    beam            beam search over pieces of completions, which the model compares
    lookahead       the same, a piece being scored behind what is written greedily after it
    sequential      a vote over the last attempts of chains, each of which reads those before it:
                    sequential_1 is `vote`, sequential_4 has a quarter of the chains

`pass` is what a perfect verifier would choose. The model is that of --scorer: a published folder
with one label, or a run whose head is a reward or value. A row says the accuracy with Wilson's
interval over problems, the tokens that the policy wrote for a problem, and the texts that the
model read. Problems, rewards, lengths and temperature are those of the config (data, scoring,
evaluation), as in launch/evaluate.py.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from rljax.commands.parser import Parser, named, path, whole
from rljax.commands.paths import check_file
from rljax.commands.run import run
from rljax.processes.identity import check_alone


def listed(kind: type) -> Callable[[str], tuple]:
    """Reads a flag with commas."""

    def read(text: str) -> tuple:
        try:
            return tuple(kind(word) for word in text.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"must be values with commas between them, got {text!r}"
            ) from None

    return read


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
    add("--strategies", type=listed(str), default=("vote",), metavar="X,Y", help="see above (vote)")
    add("--budgets", type=listed(int), default=(1, 2, 4, 8), metavar="N,M", help="(1,2,4,8)")
    add("--scorer", type=path, metavar="DIR", help="a reward or value model")
    add("--scorer-dtype", default="float32", choices=("float32", "bfloat16"), help="if published")
    add("--beam-width", type=whole(2), default=4, metavar="M", help="children of a beam (4)")
    add("--step-tokens", type=whole(1), default=16, metavar="N", help="of a piece of a beam (16)")
    add("--lookahead-steps", type=whole(1), default=1, metavar="N", help="pieces ahead (1)")
    add("--attempts", type=listed(int), default=(1, 2, 4), metavar="N,M", help="of chains (1,2,4)")
    add("--again", default="\nWait, ", metavar="TEXT", help="between attempts (a line, Wait)")
    add("--out", type=path, metavar="FILE", help="also writes the figures there, as JSON")
    add("--overwrite", action="store_true", help="replace --out if it exists")
    return made


def search(options: argparse.Namespace) -> None:
    """Checks, searches and prints."""
    check_alone("launch/search.py", os.environ)
    if options.out is not None:
        check_file(options.out, "--out", overwrite=options.overwrite)
    # Imported late, so that wrong words are answered at once.
    from rljax.reporting.files import json_text, write_text_atomic
    from rljax.training.judged import config_of_model, config_of_run, opened
    from rljax.training.run.loaded import load_folder
    from rljax.training.run.problems import prompt_column
    from rljax.training.test_time.scorer import TextScorer
    from rljax.training.test_time.settings import Settings, check_settings
    from rljax.training.test_time.study import Study, figures_of, table_of

    names = (
        *("strategies", "budgets", "beam_width", "step_tokens", "lookahead_steps"),
        *("attempts", "again"),
    )
    settings = Settings(**{name: getattr(options, name) for name in names})
    check_settings(settings, options.scorer is not None)
    stage = ""
    if options.checkpoint is not None:
        config = config_of_run(options.config, options.checkpoint, options.overrides)
        stage = Path(config.model.init_from).parent.name  # WORKDIR/checkpoints/STAGE/STEP
    else:
        config = config_of_model(options.config, options.model, options.overrides)
    with opened(config, stage) as (context, decoding, params):
        scorer = None
        if options.scorer is not None:
            own = load_folder(options.scorer, "", options.scorer_dtype, context.mesh, "--scorer")
            scorer = TextScorer(own, context.mesh, prompt_column(config))
        results = Study(context, decoding, settings, scorer)(params)
    print(table_of(results))
    if options.out is not None:
        named_as = {"model": config.model.init_from, "config": options.config}
        write_text_atomic(options.out, json_text({**named_as, "results": figures_of(results)}))
        print(f"wrote {options.out}")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), search, arguments)


if __name__ == "__main__":
    sys.exit(main())
