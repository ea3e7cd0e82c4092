"""The table of over-optimisation: how a gold reward falls as its proxy is optimised, beside DPO."""

from collections.abc import Mapping, Sequence

import numpy as np

from rljax.comparison import statistics
from rljax.comparison.contrasts import Contrast
from rljax.comparison.orderings import judged
from rljax.comparison.preferences.table import Lines, contrast, head, row
from rljax.comparison.table import interval, number

Found = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]

_FALLS, _UNPACKING = "arXiv:2210.10760", "arXiv:2406.09279"
# What is claimed, (policy, measure) of the larger and of the smaller, and who says so.
CLAIMS = (
    ("rloo: gold at the turn > at the end", ("rloo", "gold_at_turn"), ("rloo", "gold"), _FALLS),
    (
        "rloo_blind: gold at the turn > at the end",
        ("rloo_blind", "gold_at_turn"),
        ("rloo_blind", "gold"),
        _FALLS,
    ),
    ("rloo_kl > rloo at the end", ("rloo_kl", "gold"), ("rloo", "gold"), _FALLS),
    (
        "rloo_blind_kl > rloo_blind at the end",
        ("rloo_blind_kl", "gold"),
        ("rloo_blind", "gold"),
        _FALLS,
    ),
    ("rloo > dpo at the KL of dpo", ("rloo", "gold_at_dpo"), ("dpo", "gold"), _UNPACKING),
    ("rloo > dpo at the end", ("rloo", "gold"), ("dpo", "gold"), _UNPACKING),
)


def as_markdown(found: Found) -> str:
    """The policies at their ends, and the claims.

    Args:
        found: of `run_overoptimisation`, or read back from its JSON.
    """
    return "\n".join([*policies_table(found), "", *claims_table(found)]) + "\n"


def policies_table(found: Found) -> Lines:
    """A line for each policy and number of pairs; medians over seeds, gold with its interval."""
    lines = head("pairs", "policy", "KL, nats", "proxy", "gold at the turn", "gold at the end")
    for pairs, policies in found.items():
        for name, values in policies.items():
            cells = (
                number(_median(values["kl"])),
                *(
                    interval(statistics.median(np.array(values[m]))) if m in values else "–"
                    for m in ("proxy", "gold_at_turn", "gold")
                ),
            )
            lines.append(row(pairs, name, *cells))
    return lines


def claims_table(found: Found) -> Lines:
    """Whether the claims hold at each number of pairs; verdicts corrected for their number."""
    asked = [(pairs, claim) for claim in CLAIMS for pairs in found]
    against = [_contrast(found[pairs], *claim[1:3]) for pairs, claim in asked]
    lines = head("claim", "pairs", "source", "difference", "holds")
    verdicts = judged([">"] * len(asked), against)
    for (pairs, claim), one, verdict in zip(asked, against, verdicts, strict=True):
        effect = interval(one.effect, signed=True)
        lines.append(row(claim[0], pairs, claim[3], effect, verdict.said))
    return lines


def _contrast(
    policies: Mapping[str, Mapping[str, Sequence[float]]],
    larger: tuple[str, str],
    smaller: tuple[str, str],
) -> Contrast:
    return contrast(*(policies[policy][measure] for policy, measure in (larger, smaller)))


def _median(values: Sequence[float]) -> float:
    return float(np.median(np.asarray(values)))
