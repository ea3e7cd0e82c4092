"""What is measured of diffusion policies, under which decodings, and what papers claim."""

from collections.abc import Mapping
from pathlib import Path

from rljax.comparison.diffusion.methods import (
    METHODS,
    STEP_TOKENS,
    TASKS,
    method_config,
    warmup_config,
)
from rljax.comparison.from_start.study import Study
from rljax.comparison.orderings import Claim

# SPG's table of LLaDA-8B-Instruct (arXiv:2510.09541), BGPO's (arXiv:2510.11683).
_SPG, _BGPO = "arXiv:2510.09541", "arXiv:2510.11683"
_ORDER = ("diffu_grpo", "wd1", "unigrpo", "spg_eubo", "spg")  # from the lowest, on both tasks
SAMPLED = "pass@1"
CLAIMS = tuple(
    Claim(better, ">", worse, SAMPLED, source, task)
    for task in TASKS
    for better, worse, source in (
        *((b, a, _SPG) for a, b in zip(_ORDER, _ORDER[1:], strict=False)),
        ("spg", "spg_elbo", _SPG),
        ("bgpo", "diffu_grpo", _BGPO),
        ("espo", "diffu_grpo", "arXiv:2512.03759"),
        ("coupled_grpo", "warmup", "arXiv:2506.20639"),
    )
)


def decodings(task: str) -> Mapping[str, Mapping[str, object]]:
    """Canvases that are longer, one block, one token a step, and fills in any order."""
    canvas = TASKS[task].canvas
    one, places = "sampler.diffusion.block_tokens", "sampler.diffusion.steps"
    return {
        "longer": {"evaluation.max_new_tokens": 2 * canvas, places: 2 * canvas // STEP_TOKENS},
        "one block": {one: canvas, places: canvas // STEP_TOKENS},
        "one token a step": {places: canvas},
        "one token, any order": {places: canvas, "sampler.diffusion.remasking": "random"},
        "left to right": {one: 1, places: canvas},
    }


def study_of(task: str) -> Study:
    """The study of a task.

    Args:
        task: of `TASKS`; of another name the study refuses to run it.
    """
    return Study(
        tasks=tuple(TASKS),
        methods=tuple(METHODS),
        measures={
            SAMPLED: "sampled accuracy",
            "accuracy_greedy": "greedy accuracy",
            "degenerate_share": "degenerate",
        },
        claims=CLAIMS,
        prepare=_nothing,
        warmup_config=warmup_config,
        method_config=method_config,
        start="warmup",
        shows_untrained=True,
        decodings=decodings(task) if task in TASKS else {},
    )


def _nothing(task: str, folder: Path) -> None:
    """The generators need no files."""
