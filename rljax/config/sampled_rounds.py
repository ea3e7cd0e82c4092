"""Stages whose policy writes its own rows, which a rule chooses: what fits together."""

from rljax.config.stage import Stage
from rljax.data.sample_rules import OF_VERDICTS, SEVERAL
from rljax.errors import shown

# Sources of a stage whose policy samples its rows, in one round or in several.
SAMPLED_SOURCES = ("sampled", "sampled_pairs", "sampled_labels")

# Source -> the field that names its rule.
RULE_FIELDS = {"sampled": "keep", "sampled_pairs": "pair_rule", "sampled_labels": "label_rule"}


def reads_scores(stage: Stage) -> bool:
    """Whether the rule of a stage that samples its rows goes by scores, not by verdicts alone."""
    return stage.data[RULE_FIELDS[stage.data["source"]]] not in OF_VERDICTS


def check_sampled_rounds(stage: Stage, where: str) -> None:
    """Raises ValueError for rounds that do not divide the steps, and for fields without a reader.

    Args:
        stage: resolved.
        where: its path in the config.
    """
    data, curriculum = stage.data, stage.objective.choices.get("curriculum", "in_turn")
    if data["source"] not in ("sampled_pairs", "sampled_labels"):
        if curriculum != "in_turn":
            raise ValueError(
                f"curriculum={curriculum!r} chooses what the policy samples, and data.source="
                f"{data['source']!r} reads rows of a file: take 'in_turn', or a source that "
                f"samples ({where}.objective.curriculum, {where}.data.source)."
            )
        return
    if (of_files := _of_files(stage)) is not None:
        raise ValueError(
            f"Method {stage.objective.method.name!r} reads {of_files}, which no rule finds among "
            f"samples: give a file ({where}.data.source, {where}.data.path)."
        )
    if data["max_completion_tokens"] < stage.max_new_tokens:
        raise ValueError(
            f"max_completion_tokens={data['max_completion_tokens']} is too small for samples of "
            f"max_new_tokens={stage.max_new_tokens} ({where}.data.max_completion_tokens)."
        )
    if stage.steps % data["rounds"]:
        raise ValueError(
            f"rounds={data['rounds']} does not divide steps={stage.steps}: every round has equally "
            f"many ({where}.data.rounds, {where}.steps)."
        )
    if data["source"] == "sampled_labels":
        _check_unread(stage, where, "label_threshold", data["label_rule"] == "above_threshold")
        return
    _check_unread(stage, where, "pair_margin", data["pair_rule"] not in OF_VERDICTS)
    _check_unread(stage, where, "pairs_most", data["pair_rule"] in SEVERAL)
    if stage.batch.samples_per_prompt < 2:
        raise ValueError(
            f"samples_per_prompt={stage.batch.samples_per_prompt} makes no pair; at least 2 are "
            f"needed ({where}.batch.samples_per_prompt)."
        )
    if data["pair_rule"] == "top_lower" and data["pairs_most"] >= stage.batch.samples_per_prompt:
        raise ValueError(
            f"pairs_most={data['pairs_most']} with pair_rule='top_lower' leaves none of "
            f"samples_per_prompt={stage.batch.samples_per_prompt} to be lower "
            f"({where}.data.pairs_most, {where}.batch.samples_per_prompt)."
        )


def _of_files(stage: Stage) -> str | None:
    """What the rows of a file say, and no rule of samples does, where the objective reads it."""
    if stage.objective.choices.get("group_estimator", "none") != "none":
        return "groups of completions"
    said = {"ratings": "ratings of completions", "step_ids": "labels of steps"}
    return next((said[name] for name in said if name in stage.objective.inputs), None)


def _check_unread(stage: Stage, where: str, name: str, read: bool) -> None:
    """Refuses a field that the rule never reads, where it is not the default."""
    source = stage.data["source"]
    default = stage.objective.description.sources[source].data[name]
    if not read and stage.data[name] != default:
        rule = RULE_FIELDS[source]
        raise ValueError(
            f"{name}={shown(stage.data[name])} is never read with {rule}={stage.data[rule]!r} "
            f"({where}.data.{name}, {where}.data.{rule})."
        )
