"""Sweeps: many runs of one config that differ in a few fields, and what these fields do.

    from rljax.comparison.sweeps import grid

    def sweep():
        yield from grid({"grpo.optimizer.learning_rate": (1e-4, 3e-4), "seed": (0, 1)})

Each yielded mapping is a cell: a run of its own. Cells that differ in nothing but the seed are one
condition, whose seeds are aggregated.

| file | what it holds |
| --- | --- |
| `helpers.py` | grid, zipped, draws: for sweep files |
| `cells.py` | a sweep file expanded to cells with names and hashes |
| `folder.py` | a sweep on disk: what its cells are, how each has ended |
| `slots.py` | the cores and devices of a machine shared out |
| `side_by_side.py` | processes beside each other, some ended early |
| `halving.py` | successive halving: which conditions go on |
| `local.py` | all cells on this machine |
| `vmapped.py` | all cells as one program |
| `population.py` | population-based training: the rule, and what it decides at a step |
| `exploit.py`, `explore.py` | who copies whom, and how a copy changes its numbers |
| `lineage.py` | who has copied whom, in checkpoints and `lineage.json` |
| `rendered.py` | a job for each cell |
| `scores.py` | what the cells have found, by condition |
| `tables.py` | tables as rows, Markdown and CSV |
| `fields.py`, `coordinates.py`, `effects.py` | what each field does, as pictures |
| `schedules.py` | fields of a population over steps, as pictures |
| `page.py`, `write.py` | the page, and all files of a sweep |
"""

from rljax.comparison.sweeps.helpers import choice, draws, grid, log_uniform, uniform, zipped

__all__ = ["choice", "draws", "grid", "log_uniform", "uniform", "zipped"]
