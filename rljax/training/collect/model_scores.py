"""What is made of reward models' scores before they are a reward: each part by its name.

    scores of each model -> normalise -> one score of all -> clip -> length penalty

Without any the reward is the score; of several models, the mean of their scores. Metrics show the
score itself, `reward/reward_model`, and `reward/reward_disagreement`.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from rljax.objectives.whitening import whiten


@dataclasses.dataclass(frozen=True)
class ScoreParts:
    """The parts of a stage's reward model.

    Attributes:
        normalise: "none"; "whiten": mean 0 and variance 1 over the samples that are scored
            together, those of a step; "reference": mean and deviation of the scores of reference
            completions become 0 and 1 (InstructGPT, arXiv:2203.02155, section 3.5, has the mean).
        means: of the reference completions' scores, one for each model.
        deviations: of the same, > 0.
        ensemble: what is made of the scores of several models (arXiv:2310.02743): "mean"; "min",
            the worst case; "mean_minus_deviation", the mean less `ensemble_weight` times the
            standard deviation over the models.
        ensemble_weight: see above.
        clip: scores beyond +- this count as this; 0: never.
        length_penalty: taken off for each token of the completion.
    """

    normalise: str = "none"
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    ensemble: str = "mean"
    ensemble_weight: float = 1.0
    clip: float = 0.0
    length_penalty: float = 0.0

    def __call__(self, scores: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The rewards of N samples.

        Args:
            scores: [M, N] f32, of each model.
            lengths: [N] i32, tokens of the completions.

        Returns:
            [N] f32.
        """
        each = self.normalised(scores)
        if self.ensemble == "min":
            one = each.min(axis=0)
        else:
            one = each.mean(axis=0)
        if self.ensemble == "mean_minus_deviation":
            one = one - self.ensemble_weight * each.std(axis=0)
        if self.clip:
            one = np.clip(one, -self.clip, self.clip)
        return (one - self.length_penalty * lengths).astype(np.float32)

    def normalised(self, scores: np.ndarray) -> np.ndarray:
        """[M, N] f32, the scores of each model on a scale of their own."""
        scores = np.asarray(scores, np.float32)
        if self.normalise == "whiten":
            everything = jnp.ones(scores.shape[1], bool)
            return np.stack([np.asarray(whiten(jnp.asarray(own), everything)) for own in scores])
        if self.normalise == "reference":
            means, deviations = (np.array(x)[:, None] for x in (self.means, self.deviations))
            return ((scores - means) / deviations).astype(np.float32)
        return scores


def reference_statistics(scores: np.ndarray, where: str) -> tuple[float, float]:
    """Mean and standard deviation of the scores of reference completions.

    Args:
        scores: [N] f32.
        where: the config field of their file, for errors.

    Raises:
        ValueError: for scores that do not differ, which say nothing of a scale.
    """
    deviation = float(np.std(scores, dtype=np.float64))
    if not deviation > 0:
        raise ValueError(
            f"The {len(scores)} reference completions all have the score {float(scores[0])}: give "
            f"some that differ ({where})."
        )
    return float(np.mean(scores, dtype=np.float64)), deviation
