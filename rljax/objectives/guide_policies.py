"""Which part of a sample a guide policy writes (RLGF, arXiv:2306.11816).

Two policies write a sample: the first h tokens are of the roll-in policy, the others of the
roll-out policy. Only what the learning policy wrote is trained on. A step is one of two kinds:

| the guide | the policy learns | the critic learns |
| --- | --- | --- |
| rolls in | tokens behind the prefix | from the same tokens: values of the policy |
| rolls out | the prefix, by what the guide makes of it | from the guide's tokens: values of it |

A prefix has at least one token and leaves at least one. A sample without a prefix is of the
roll-out policy alone: where that is the guide, the critic learns from it and the policy does not.
"""

from collections.abc import Callable
from typing import NamedTuple

from rljax.objectives.parts import check_field

SHARE = (lambda x: 0 <= x <= 1, "in [0, 1]")


class GuidePlan(NamedTuple):
    """What a guide does in the steps of a stage.

    Attributes:
        share: of the samples that have a prefix.
        rolls_in: (step of the stage, from 1; a number in [0, 1) that is drawn for the step) ->
            whether the guide writes the prefixes of the step; else it writes what follows them.
        kinds: of steps that there may be, of "in" and "out". Of each kind there is a critic.
    """

    share: float
    rolls_in: Callable[[int, float], bool]
    kinds: tuple[str, ...]


def guide_roll_in(*, guide_share: float = 0.8) -> GuidePlan:
    """PPO++: the guide writes prefixes, from which the policy goes on.

    Fixed by us: a KL in the reward counts the policy's own tokens alone, as the guide's were not
    drawn from the policy. The authors' code leaves the KL out of the reward.

    Args:
        guide_share: beta, the share of samples with a prefix: 0.6 on IMDB, 0.8 on CommonGen and
            TL;DR. With 0 this is PPO.
    """
    check_field("guide_share", guide_share, *SHARE)
    return GuidePlan(guide_share, lambda step, drawn: True, ("in",))


def guide_roll_out(*, guide_share: float = 0.8) -> GuidePlan:
    """AggreVaTeD: the policy writes prefixes, and learns what the guide makes of them.

    Args:
        guide_share: beta, the share of samples with a prefix: 0.8, and 1 on TL;DR. The others
            teach the critic alone.
    """
    check_field("guide_share", guide_share, *SHARE)
    return GuidePlan(guide_share, lambda step, drawn: False, ("out",))


def guide_alternating(*, guide_share: float = 0.8, roll_in_share: float = 0.8) -> GuidePlan:
    """LOLS: in each step the guide rolls in, as in PPO++, or rolls out, as in AggreVaTeD.

    Values of the policy and of the guide are learned by a critic each.

    Args:
        guide_share: beta, the share of samples with a prefix.
        roll_in_share: tau, the share of steps in which the guide rolls in.
    """
    check_field("guide_share", guide_share, *SHARE)
    check_field("roll_in_share", roll_in_share, *SHARE)
    return GuidePlan(guide_share, lambda step, drawn: drawn < roll_in_share, ("in", "out"))


def guide_switching(*, guide_share: float = 0.8, roll_out_steps: int = 20) -> GuidePlan:
    """D2LOLS: first the guide rolls out, as in AggreVaTeD, then it rolls in, as in PPO++.

    Values of the policy and of the guide are learned by a critic each.

    Args:
        guide_share: beta, the share of samples with a prefix.
        roll_out_steps: tau, steps in which the guide rolls out: 20 on IMDB, 100 on CommonGen, 200
            on TL;DR.
    """
    check_field("guide_share", guide_share, *SHARE)
    check_field("roll_out_steps", roll_out_steps, lambda x: x >= 0, ">= 0")
    return GuidePlan(guide_share, lambda step, drawn: step > roll_out_steps, ("in", "out"))


GUIDE_POLICIES = {
    "guide_roll_in": guide_roll_in,
    "guide_roll_out": guide_roll_out,
    "guide_alternating": guide_alternating,
    "guide_switching": guide_switching,
}
