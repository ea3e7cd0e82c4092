"""Slug recap: weights of objectives by the losses of the last steps."""

from golden_adapters.common import floats
from rljax.objectives.advantages.reweighted import progress, progress_weights


def recap(case: dict) -> dict:
    history, temperature = floats(case, "loss_history"), case["args"]["temperature"]
    found = progress(history, 0.0)

    def weights(temperature: float):
        return progress_weights(history, reweight_temperature=temperature, loss_epsilon=0.0)

    return {
        "convergence": found.convergence,
        "instability": found.instability,
        "weights": weights(temperature),
        "weights_with_half_half_score": weights(2 * temperature),
    }
