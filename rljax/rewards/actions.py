"""The hierarchical reward of Shop-R1 (arXiv:2507.17842): an action, its type, then its fields.

References are {"type": "click", "name": ...}, {"type": "type_and_submit", "name": ..., "text": ...}
or {"type": "terminate"}, or that as JSON text.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from rljax.rewards.references import reference_fields
from rljax.rewards.stacks.extraction import after_thought
from rljax.rewards.text_metrics.rouge import rouge
from rljax.rewards.thresholds import reaches

# Type of an action -> the fields that it must have.
FIELDS = {"click": ("name",), "type_and_submit": ("name", "text"), "terminate": ()}

FORMAT, TYPE, CLICK, SUBMIT = 0.5, 0.3, 0.2, 0.1


class Action(NamedTuple):
    """What a user does next."""

    type: str
    fields: dict[str, str]  # those of its type that are given


def shop_action(
    prompt: str,
    completion: str,
    reference: Any,
    *,
    threshold: float = 0.75,
    difficulty_scale: float = 1000.0,
) -> float:
    """Grades a JSON action: format, type, fields given, fields right; 0 for what is no action.

        format                0.5
        type                  + 0.3; everything below only with the right type
        click                 + 0.2 with a name + D S(name)
        type_and_submit       + 0.1 with a name + 0.1 with a text + 0.1 S(name) + D S(text)

    S is ROUGE-L, 0 below the threshold. The completion, behind a </think>, is
    {"rationale": text, "action": {"type": ..., "name": ..., "text": ...}}.

    Args:
        prompt: not read.
        completion: the model's text.
        reference: the gold action.
        threshold: similarities below it count as 0.
        difficulty_scale: D, the factor of the field that is long and rarely right.
    """
    gold, own = read_action(reference), parse_action(completion)
    if own is None:
        return 0.0
    if own.type != gold.type:
        return FORMAT
    similar = {name: _similar(own.fields, gold.fields, name, threshold) for name in gold.fields}
    score = FORMAT + TYPE
    if gold.type == "click":
        score += CLICK * ("name" in own.fields) + difficulty_scale * similar["name"]
    elif gold.type == "type_and_submit":
        score += SUBMIT * (len(own.fields) + similar["name"]) + difficulty_scale * similar["text"]
    return score


def parse_action(text: str) -> Action | None:
    """The action that a text is; None where it is no JSON with the required keys."""
    (answer,) = after_thought(text)
    try:
        given = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    action = given.get("action") if isinstance(given, Mapping) else None
    if not isinstance(action, Mapping) or not isinstance(given.get("rationale"), str):
        return None
    kind = action.get("type")
    if not isinstance(kind, str) or kind not in FIELDS:
        return None
    return Action(kind, _texts(action, kind))


def read_action(reference: Any) -> Action:
    """The gold action.

    Raises:
        ValueError: for another type, or one of whose fields is no text.
    """
    (kind,) = reference_fields(reference, ("type",), "shop_action")
    if kind not in FIELDS:
        raise ValueError(
            f"The reward 'shop_action' needs a type among {', '.join(FIELDS)}, got {kind!r} "
            "(config.data.reference_column)."
        )
    names = FIELDS[kind]
    given = dict(zip(names, reference_fields(reference, names, "shop_action"), strict=True))
    action = Action(kind, _texts(given, kind))
    if len(action.fields) < len(names):
        raise ValueError(
            f"The fields {' and '.join(names)} of an action {kind!r} must be texts, got {given!r} "
            "(config.data.reference_column)."
        )
    return action


def _texts(given: Mapping[str, Any], kind: str) -> dict[str, str]:
    """The fields of an action that are texts with something in them."""
    found = {name: given.get(name) for name in FIELDS[kind]}
    return {name: x for name, x in found.items() if isinstance(x, str) and x.strip()}


def _similar(own: Mapping[str, str], gold: Mapping[str, str], name: str, threshold: float) -> float:
    value = rouge(own.get(name, ""), gold[name])
    return value if reaches(value, threshold) else 0.0
