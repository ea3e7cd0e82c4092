r"""Chooses or weighs the examples of a file, before a supervised stage learns them.

    python launch/select.py less --pool=pool.jsonl --target=target.jsonl --task-column=task \
        --checkpoints=WORKDIR/checkpoints/sft/20,WORKDIR/checkpoints/sft/40 --out=chosen.jsonl
    python launch/select.py loss --checkpoints=WORKDIR --pool=pool.jsonl --loss-map=linupper \
        --out=weighted.jsonl

KIND is one of

    less    LESS (arXiv:2402.04333): keeps the share of the pool whose updates go where the
            gradients of the target's examples point, by checkpoints of a warm-up on a part of the
            pool, best with adapters (config.model.lora); of several tasks the one it helps most
    loss    weights of all examples by their losses under one model (arXiv:2502.06733)
    angle   how parallel the token vectors of each problem are (GAIN-RL, arXiv:2506.02281)

A line of --out is the line of --pool with further columns. Of less and loss these are `weight`,
whose mean is 1, and `influence` or `loss`: a supervised stage reads the file as
--config.STAGE.data.path=FILE --config.STAGE.data.weight_column=weight. Of angle they are
`angle_signal` and `angle`, which method gain_rl reads as --config.data.difficulty_column and
--config.data.angle_column.
"""

import sys
from os.path import dirname

# This file has the name of a standard module, and Python looks for modules beside a command first.
# Whoever asks for the standard one, in any command of this folder, gets it (as in inspect.py).
sys.path[:] = [path for path in sys.path if path != dirname(__file__)]
if __name__ == "select":
    del sys.modules["select"]
    __import__("select")
else:
    import argparse
    import os
    from pathlib import Path
    from typing import Any

    from rljax.commands.parser import Parser, path, whole
    from rljax.commands.paths import check_file
    from rljax.commands.run import run
    from rljax.processes.identity import check_alone

LOSS_MAPS = ("linupper", "quadratic", "extremes", "upper")
# Flags that only one kind reads.
OWN = {
    "less": ("target", "task_column", "keep", "projection"),
    "loss": ("loss_map", "loss_temperature"),
    "angle": ("prompt_column", "shared_weight"),
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


def folders(text: str) -> "tuple[Path, ...]":
    """Reads folders with commas between them."""
    return tuple(path(word) for word in text.split(","))


def parser() -> "Parser":
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument
    add("kind", choices=tuple(OWN), metavar="KIND", help="less, loss or angle")
    either = made.add_mutually_exclusive_group(required=True)
    either.add_argument("--checkpoints", type=folders, metavar="DIR,DIR", help="of one stage")
    either.add_argument(
        "--model", type=path, metavar="DIR", help="a Hugging Face folder (not less)"
    )
    add("--pool", type=path, required=True, metavar="FILE", help="demonstrations, or problems")
    add("--target", type=path, metavar="FILE", help="less: demonstrations of what is wanted")
    add("--task-column", metavar="NAME", help="less: the task of a target's row (one task)")
    add("--keep", type=share, metavar="X", help="less: the share that is kept (0.05)")
    add("--projection", type=whole(1), metavar="N", help="less: numbers of a gradient (8192)")
    add("--loss-map", choices=LOSS_MAPS, help="loss: which losses count more (linupper)")
    add("--loss-temperature", type=positive, metavar="X", help="loss: of the weights (0.4)")
    add("--prompt-column", metavar="NAME", help="angle: of --pool (prompt)")
    add("--shared-weight", type=positive, metavar="X", help="angle: of the system prompt (1)")
    add("--row-tokens", type=whole(2), default=4096, metavar="N", help="of an example, at most")
    add("--rows", type=whole(1), default=8, metavar="N", help="examples of a pass (8)")
    add("--seed", type=whole(0), default=0, metavar="N", help="of the random signs (0)")
    add("--out", type=path, required=True, metavar="FILE", help="JSON lines")
    add("--overwrite", action="store_true", help="replace --out if it exists")
    return made


def check_flags(options: "argparse.Namespace") -> None:
    """Raises ValueError for flags that the kind never reads, or lacks."""
    for kind, names in OWN.items():
        for name in names:
            if kind != options.kind and getattr(options, name) is not None:
                flag = name.replace("_", "-")
                raise ValueError(f"only {kind} reads it (--{flag}, KIND={options.kind})")
    if options.kind == "less" and options.target is None:
        raise ValueError("less compares with examples of what is wanted (--target)")
    if options.kind == "less" and options.checkpoints is None:
        raise ValueError("less reads the moments of an optimizer, which --model has not (--model)")
    if options.kind != "less" and options.checkpoints and len(options.checkpoints) > 1:
        raise ValueError(f"{options.kind} asks one model (--checkpoints)")


def select(options: "argparse.Namespace") -> None:
    """Checks, scores and writes."""
    check_alone("launch/select.py", os.environ)
    check_flags(options)
    check_file(options.out, "--out", overwrite=options.overwrite)
    # Imported late, so that wrong words are answered at once.
    from rljax.parallel.mesh import make_mesh
    from rljax.training.data_selection.sets import read_prompts, read_set, write_set
    from rljax.training.data_selection.warmup import load_checkpoints, load_model

    mesh = make_mesh({"data": -1})
    if options.checkpoints is None:
        models = [load_model(options.model, mesh, "--model")]
    else:
        moments = options.kind == "less"
        models = load_checkpoints(options.checkpoints, mesh, "--checkpoints", moments=moments)
    text_format, most = models[-1].text_format, options.row_tokens
    if options.kind == "angle":
        column = options.prompt_column or "prompt"
        pool = read_prompts(options.pool, text_format, most, column, "--pool")
    else:
        pool = read_set(options.pool, text_format, most, "--pool")
    chosen, columns, said = KINDS[options.kind](options, models, pool, mesh)
    write_set(options.out, pool, chosen, columns)
    print(f"wrote {len(chosen)} of {len(pool.examples)} rows to {options.out}; {said}")


def by_influence(options: "argparse.Namespace", models: list, pool: "Any", mesh: "Any") -> tuple:
    """The best share of the pool."""
    import numpy as np

    from rljax.training.data_selection.less import less_scores
    from rljax.training.data_selection.sets import WEIGHT, best_share, read_set, tasks_of

    target = read_set(options.target, models[-1].text_format, options.row_tokens, "--target")
    tasks, names = tasks_of(target, options.task_column or "", "--target")
    scores = less_scores(
        models,
        pool.examples,
        target.examples,
        tasks,
        mesh=mesh,
        projection=options.projection or 8192,
        seed=options.seed,
        rows=options.rows,
    )
    chosen = best_share(scores, options.keep or 0.05)
    said = f"{len(target.examples)} examples of {len(names)} tasks"
    return chosen, {"influence": scores, WEIGHT: np.ones(len(scores))}, said


def by_loss(options: "argparse.Namespace", models: list, pool: "Any", mesh: "Any") -> tuple:
    """All of the pool, with weights."""
    from rljax.training.data_selection.losses import example_losses, weights_of
    from rljax.training.data_selection.sets import WEIGHT

    losses = example_losses(models[-1], pool.examples, mesh=mesh, rows=options.rows)
    weights = weights_of(
        losses,
        loss_map=options.loss_map or "linupper",
        loss_temperature=options.loss_temperature or 0.4,
    )
    said = f"weights from {weights.min():.3g} to {weights.max():.3g}"
    return range(len(losses)), {"loss": losses, WEIGHT: weights}, said


def by_angle(options: "argparse.Namespace", models: list, pool: "Any", mesh: "Any") -> tuple:
    """All of the pool, with angles."""
    from rljax.models.lora import combine
    from rljax.training.data_selection.angles import prompt_angles

    model = models[-1]
    found = prompt_angles(
        model.network,
        combine(model.trained, model.frozen),
        [example.tokens for example in pool.examples],
        mesh=mesh,
        shared_weight=options.shared_weight or 1.0,
        pad_id=model.text_format.tokenizer.pad_id,
        rows=options.rows,
    )
    said = f"signals from {found.signal.min():.3g} to {found.signal.max():.3g}"
    columns = {"angle_signal": found.signal, "angle": found.angle}
    return range(len(pool.examples)), columns, said


KINDS = {"less": by_influence, "loss": by_loss, "angle": by_angle}


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), select, arguments)


if __name__ == "__main__":
    sys.exit(main())
