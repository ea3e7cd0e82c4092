"""Seeds of made problems: those of training and of held-out problems must not meet."""

FIELD = "config.data"


def check_seeds_apart(
    *, train_seed: int, train_size: int, heldout_seed: int, heldout_size: int
) -> None:
    """Raises ValueError where a training and a held-out problem would be made of the same seed.

    Problem i of a set has the set's first seed + i.
    """
    first, second = sorted([(train_seed, train_size), (heldout_seed, heldout_size)])
    if first[0] + first[1] > second[0]:
        raise ValueError(
            f"Training items use seeds {train_seed}..{train_seed + train_size - 1} and held-out "
            f"items {heldout_seed}..{heldout_seed + heldout_size - 1}: they overlap. Choose seeds "
            f"further apart than the sizes ({FIELD}.train_seed, {FIELD}.heldout_seed)."
        )
