"""What is made of a reward model's scores before they are a reward: each part by its name.

    score -> normalise -> clip -> length penalty

Without any the reward is the score. Metrics show the score itself, `reward/reward_model`.
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
        mean: of the reference completions' scores.
        deviation: of the same, > 0.
        clip: scores beyond +- this count as this; 0: never.
        length_penalty: taken off for each token of the completion.
    """

    normalise: str = "none"
    mean: float = 0.0
    deviation: float = 1.0
    clip: float = 0.0
    length_penalty: float = 0.0

    def __call__(self, scores: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The rewards of N samples.

        Args:
            scores: [N] f32, of the last token of each.
            lengths: [N] i32, tokens of the completions.

        Returns:
            [N] f32.
        """
        scores = np.asarray(scores, np.float32)
        if self.normalise == "whiten":
            scores = np.asarray(whiten(jnp.asarray(scores), jnp.ones(scores.shape, bool)))
        if self.normalise == "reference":
            scores = (scores - self.mean) / self.deviation
        if self.clip:
            scores = np.clip(scores, -self.clip, self.clip)
        return (scores - self.length_penalty * lengths).astype(np.float32)


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
