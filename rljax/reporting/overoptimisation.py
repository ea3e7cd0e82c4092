"""Over-optimisation of a reward model: proxy and gold reward as the policy leaves its start.

Gao et al., 2022 (arXiv:2210.10760): with d = sqrt(KL(policy || start)), the rewards of policy
gradients follow R(d) = R(0) + d (a - b log d). The proxy keeps rising where the gold reward, which
is what the proxy was to stand for, has passed its peak.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rljax.reporting.run_data import Curve, Stage

# Distances that lie closer together determine no curve.
SPAN = 3.0

# Of one token: unbiased and never negative. Times the tokens of a completion it is of a whole one.
KL, LENGTH = "kl_to_start_k3", "completion_tokens"


class Points(NamedTuple):
    """A curve in the order of the steps, NumPy [n]."""

    steps: np.ndarray
    kl: np.ndarray  # of a completion, nats
    proxy: np.ndarray
    gold: np.ndarray

    @property
    def distance(self) -> np.ndarray:
        """d = sqrt(KL)."""
        return np.sqrt(np.maximum(self.kl, 0.0))


class Fit(NamedTuple):
    """R(d) = start + d (slope - bend log d)."""

    start: float
    slope: float
    bend: float

    def __call__(self, distance: np.ndarray) -> np.ndarray:
        """The rewards at distances, which are > 0."""
        return self.start + distance * (self.slope - self.bend * np.log(distance))


def curve_of(stage: Stage, proxy: str, gold: str, window: int, where: str) -> Points:
    """The curve of a stage, each point a mean over `window` steps; a rest that is shorter too.

    Args:
        stage: of a run.
        proxy: the metric that the policy was trained on.
        gold: the metric that it should be judged by.
        window: steps of a point.
        where: of the stage, for errors.

    Raises:
        ValueError: for a metric that the stage has not logged, or with no step in common.
    """
    curves = {name: _curve(stage, name, where) for name in (KL, LENGTH, proxy, gold)}
    common = sorted(set.intersection(*(set(curve.steps.tolist()) for curve in curves.values())))
    if not common:
        raise ValueError(f"{where} has no step with all of {', '.join(curves)}.")
    columns = {
        name: curve.values[np.searchsorted(curve.steps, common)] for name, curve in curves.items()
    }
    kl = columns[KL] * columns[LENGTH]
    steps = np.array(common)

    def means(values: np.ndarray) -> np.ndarray:
        starts = range(0, len(values), window)
        return np.array([np.mean(values[start : start + window]) for start in starts])

    last = np.array([steps[start : start + window][-1] for start in range(0, len(steps), window)])
    return Points(last, means(kl), means(columns[proxy]), means(columns[gold]))


def _curve(stage: Stage, name: str, where: str) -> Curve:
    if name not in stage.train:
        logged = ", ".join(sorted(n for n in stage.train if n.startswith(("reward", "kl_"))))
        raise ValueError(
            f"{where} has no metric {name!r}; it has {logged or 'no reward and no KL'} "
            "(--proxy, --gold; a KL is logged with STAGE.reference_kl=True or a KL term)."
        )
    return stage.train[name]


def fitted(distance: np.ndarray, rewards: np.ndarray) -> Fit | None:
    """The least-squares fit of R(d); None where the points say too little of a curve.

    Args:
        distance: [n] f64; points at 0 are left out. At least one more than the fit has numbers,
            over a factor of `SPAN`.
        rewards: [n] f64.
    """
    away = distance > 0
    d = distance[away]
    if len(d) <= len(Fit._fields) or d.max() < SPAN * d.min():
        return None
    columns = np.stack([np.ones(len(d)), d, -d * np.log(d)], axis=1)
    return Fit(*map(float, np.linalg.lstsq(columns, rewards[away], rcond=None)[0]))


def figures(points: Points) -> dict[str, Any]:
    """What the curve says.

    Returns:
        `peak`: the point of the highest gold reward; `end`: the last one; `gold_lost`: how much
        the gold reward has fallen since its peak, and `proxy_gained` since then; `fits`; and all
        `points`.
    """
    rows = [_row(points, index) for index in range(len(points.steps))]
    best = int(np.argmax(points.gold))
    fits = {
        name: None if (fit := fitted(points.distance, values)) is None else fit._asdict()
        for name, values in (("proxy", points.proxy), ("gold", points.gold))
    }
    return {
        "peak": rows[best],
        "end": rows[-1],
        "gold_lost": rows[best]["gold"] - rows[-1]["gold"],
        "proxy_gained": rows[-1]["proxy"] - rows[best]["proxy"],
        "fits": fits,
        "points": rows,
    }


def _row(points: Points, index: int) -> Mapping[str, float]:
    named = points._asdict() | {"distance": points.distance}
    return {name: float(values[index]) for name, values in named.items()}
