"""Comparing methods over seeds: statistics, tables, pictures and a page from arrays on disk.

    runs = comparison.load_all(workdir / "methods")
    comparison.write_comparison(workdir, runs, baseline="grpo", threshold=0.8, claims=claims)

A method's seeds were trained with the same settings and differ in nothing but what the seed
draws; methods that share seeds share initial parameters and prompts, and are compared in pairs.
"""

from rljax.reporting.comparison.results import Claim, claims_about
from rljax.reporting.comparison.runs import MethodRuns, load, load_all, save
from rljax.reporting.comparison.summary import summarise
from rljax.reporting.comparison.write import write_comparison

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
