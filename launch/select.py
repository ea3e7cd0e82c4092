r"""Chooses or weighs the examples of a file, before a supervised stage learns them.

    python launch/select.py less --pool=pool.jsonl --target=target.jsonl --task-column=task \
        --checkpoints=WORKDIR/checkpoints/sft/20,WORKDIR/checkpoints/sft/40 --out=chosen.jsonl
    python launch/select.py loss --checkpoints=WORKDIR --pool=pool.jsonl --loss-map=linupper \
        --out=weighted.jsonl

KIND is one of

    less    LESS (arXiv:2402.04333): keeps the share of the pool whose updates go where the
            gradients of the target's examples point, by checkpoints of a warm-up on a part of the
            pool, best with adapters (config.model.lora); of several tasks the one it helps most
    loss    weights of all examples by their losses under one checkpoint (arXiv:2502.06733)

A line of --out is the line of --pool with a column `weight`, whose mean is 1, and `influence` or
`loss`. A supervised stage reads it as --config.STAGE.data.path=FILE
--config.STAGE.data.weight_column=weight.
"""

import argparse
import os
import sys
from pathlib import Path

from rljax.commands.parser import Parser, path, whole
from rljax.commands.paths import check_file
from rljax.commands.run import run
from rljax.processes.identity import check_alone

LOSS_MAPS = ("linupper", "quadratic", "extremes", "upper")
# Flags that only one kind reads.
OWN = {
    "less": ("target", "task_column", "keep", "projection"),
    "loss": ("loss_map", "loss_temperature"),
}


def share(text: str) -> float:
    """Reads a share in (0, 1]."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must lie in (0, 1], got {text}")
    return value


def positive(text: str) -> float:
    """Reads a number > 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number > 0, got {text}")
    return value


def folders(text: str) -> tuple[Path, ...]:
    """Reads folders with commas between them."""
    return tuple(path(word) for word in text.split(","))


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument
    add("kind", choices=tuple(OWN), metavar="KIND", help="less or loss")
    add("--checkpoints", type=folders, required=True, metavar="DIR,DIR", help="steps of one stage")
    add("--pool", type=path, required=True, metavar="FILE", help="demonstrations to choose from")
    add("--target", type=path, metavar="FILE", help="less: demonstrations of what is wanted")
    add("--task-column", metavar="NAME", help="less: the task of a target's row (one task)")
    add("--keep", type=share, metavar="X", help="less: the share that is kept (0.05)")
    add("--projection", type=whole(1), metavar="N", help="less: numbers of a gradient (8192)")
    add("--loss-map", choices=LOSS_MAPS, help="loss: which losses count more (linupper)")
    add("--loss-temperature", type=positive, metavar="X", help="loss: of the weights (0.4)")
    add("--row-tokens", type=whole(2), default=4096, metavar="N", help="of an example, at most")
    add("--rows", type=whole(1), default=8, metavar="N", help="examples of a pass (8)")
    add("--seed", type=whole(0), default=0, metavar="N", help="of the random signs (0)")
    add("--out", type=path, required=True, metavar="FILE", help="JSON lines")
    add("--overwrite", action="store_true", help="replace --out if it exists")
    return made


def check_flags(options: argparse.Namespace) -> None:
    """Raises ValueError for flags that the kind never reads, or lacks."""
    for kind, names in OWN.items():
        for name in names:
            if kind != options.kind and getattr(options, name) is not None:
                flag = name.replace("_", "-")
                raise ValueError(f"only {kind} reads it (--{flag}, KIND={options.kind})")
    if options.kind == "less" and options.target is None:
        raise ValueError("less compares with examples of what is wanted (--target)")
    if options.kind == "loss" and len(options.checkpoints) > 1:
        raise ValueError("the losses are those of one checkpoint (--checkpoints)")


def select(options: argparse.Namespace) -> None:
    """Checks, scores and writes."""
    check_alone("launch/select.py", os.environ)
    check_flags(options)
    check_file(options.out, "--out", overwrite=options.overwrite)
    # Imported late, so that wrong words are answered at once.
    import numpy as np

    from rljax.parallel.mesh import make_mesh
    from rljax.training.data_selection.less import less_scores
    from rljax.training.data_selection.losses import example_losses, weights_of
    from rljax.training.data_selection.sets import (
        WEIGHT,
        best_share,
        read_set,
        tasks_of,
        write_set,
    )
    from rljax.training.data_selection.warmup import load_checkpoints

    mesh = make_mesh({"data": -1})
    less = options.kind == "less"
    checkpoints = load_checkpoints(options.checkpoints, mesh, "--checkpoints", moments=less)
    text_format = checkpoints[-1].text_format
    pool = read_set(options.pool, text_format, options.row_tokens, "--pool")
    if less:
        target = read_set(options.target, text_format, options.row_tokens, "--target")
        tasks, names = tasks_of(target, options.task_column or "", "--target")
        size = options.projection or 8192
        scores = less_scores(
            checkpoints,
            pool.examples,
            target.examples,
            tasks,
            mesh=mesh,
            projection=size,
            seed=options.seed,
            rows=options.rows,
        )
        chosen = best_share(scores, options.keep or 0.05)
        columns = {"influence": scores, WEIGHT: np.ones(len(scores))}
        said = f"{len(target.examples)} examples of {len(names)} tasks"
    else:
        losses = example_losses(checkpoints[-1], pool.examples, mesh=mesh, rows=options.rows)
        weights = weights_of(
            losses,
            loss_map=options.loss_map or "linupper",
            loss_temperature=options.loss_temperature or 0.4,
        )
        chosen = list(range(len(losses)))
        columns = {"loss": losses, WEIGHT: weights}
        said = f"weights from {weights.min():.3g} to {weights.max():.3g}"
    write_set(options.out, pool, chosen, columns)
    print(f"wrote {len(chosen)} of {len(pool.examples)} examples to {options.out}; {said}")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), select, arguments)


if __name__ == "__main__":
    sys.exit(main())
