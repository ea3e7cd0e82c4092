"""Comparing methods over seeds within one budget: campaigns, statistics, tables, pictures.

    runs = comparison.load_all(workdir / "methods")
    comparison.write_comparison(workdir, runs, baseline="grpo", threshold=0.8, claims=claims)

A method's seeds were trained with the same settings and differ in nothing but what the seed
draws; methods that share seeds share initial parameters and prompts, and are compared in pairs.

| file | what it holds |
| --- | --- |
| `compare.py` | many methods on one task: a warm-up, a campaign each, the page |
| `runner.py` | methods one after the other within one budget; their rates are tuned |
| `campaign.py` | one method with many seeds, in a folder |
| `budget.py` | what every method may spend: updates, tokens, seconds |
| `claims.py` | orderings that papers claim |
| `runs.py` | the curves of a method's seeds, on disk |
| `results.py` | rows of the comparison, verdicts on claims |
| `contrasts.py` | one method against another, and the verdicts on several |
| `orderings.py` | what a claim is, and whether it holds |
| `statistics.py`, `censoring.py` | intervals, tests, their correction; times to a threshold |
| `notes.py` | what to know before believing the table |
| `summary.py` | what finished comparisons have found |
| `table.py` | tables as Markdown |
| `page.py`, `write.py` | the page, and all files of a comparison |
| `preferences/` | the table of preference losses: a known reward, noisy labels |
| `from_start/` | tables of methods that start from one warmed-up policy, on the host loop |
| `latent/` | the table of latent chain of thought |
| `diffusion/` | the table of diffusion policies, on countdown and sudoku |
| `sweeps/` | many runs of one config that differ in a few fields |
| `curves.py`, `forest.py`, `picture.py`, `palette.py` | pictures |
"""

from rljax.comparison.orderings import Claim
from rljax.comparison.results import claims_about
from rljax.comparison.runs import MethodRuns, load, load_all, save
from rljax.comparison.summary import summarise
from rljax.comparison.write import write_comparison

__all__ = [
    "Claim",
    "MethodRuns",
    "claims_about",
    "load",
    "load_all",
    "save",
    "summarise",
    "write_comparison",
]
