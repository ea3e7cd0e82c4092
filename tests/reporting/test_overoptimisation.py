"""The curve of a gold reward against its proxy: read, averaged, fitted."""

import numpy as np
import pytest

from rljax.reporting.overoptimisation import Fit, curve_of, figures, fitted
from rljax.reporting.run_data import Curve, Stage


def stage_of(**metrics):
    steps = np.arange(1, 1 + len(next(iter(metrics.values()))))
    named = {name.replace("__", "/"): Curve(steps, np.array(x)) for name, x in metrics.items()}
    return Stage(train=named, heldout={}, timing={})


def test_points_are_means_over_steps_and_the_kl_is_of_a_completion():
    stage = stage_of(
        kl_to_start_k3=[0.0, 0.1, 0.2, 0.3, 0.5],
        completion_tokens=[10.0, 10, 10, 20, 20],
        reward__model=[0.0, 1, 2, 3, 4],
        accuracy=[0.5, 0.6, 0.9, 0.8, 0.1],
    )
    points = curve_of(stage, "reward/model", "accuracy", 2, "here")
    assert points.steps.tolist() == [2, 4, 5]
    np.testing.assert_allclose(points.kl, [0.5, 4.0, 10.0])
    np.testing.assert_allclose(points.distance, np.sqrt([0.5, 4.0, 10.0]))
    np.testing.assert_allclose(points.proxy, [0.5, 2.5, 4.0])
    said = figures(points)
    assert said["peak"]["steps"] == 4 and said["end"]["steps"] == 5
    assert said["gold_lost"] == pytest.approx(0.75) and said["proxy_gained"] == pytest.approx(1.5)
    with pytest.raises(
        ValueError, match="here has no metric 'reward/other'; it has .*reward/model"
    ):
        curve_of(stage, "reward/other", "accuracy", 2, "here")


def test_the_fit_finds_the_law_that_the_points_follow():
    law = Fit(0.3, 1.2, 0.4)
    distance = np.linspace(0.05, 6.0, 40)
    found = fitted(np.concatenate([[0.0], distance]), np.concatenate([[9.0], law(distance)]))
    assert found == pytest.approx(law, rel=1e-9)
    # Its peak is where the slope is 0: log d = a / b - 1.
    assert law(distance).argmax() == np.abs(np.log(distance) - (1.2 / 0.4 - 1)).argmin()
    assert fitted(np.array([0.0, 1.0, 2.0, 4.0]), np.zeros(4)) is None
    assert fitted(np.linspace(1.0, 2.9, 20), np.zeros(20)) is None
