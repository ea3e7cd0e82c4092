"""Combinations that cannot work, refused before anything runs: those of every family, and `CHECKS`.

A family names the checks of its own in its record (rljax/registry/families/).
"""

from collections.abc import Callable

from rljax.config.batch import check_counters
from rljax.config.curriculum import check_curriculum, check_order
from rljax.config.data import FILE_SOURCES, check_source
from rljax.config.distillation import check_distillation, check_teacher
from rljax.config.guide import check_guide
from rljax.config.policy_gradient import check_policy_gradient
from rljax.config.posterior import check_posterior
from rljax.config.preference import check_preference
from rljax.config.sampled_rounds import SAMPLED_SOURCES, check_sampled_rounds
from rljax.config.stage import Stage
from rljax.data.step_examples import REWRITTEN, UNSURE
from rljax.objectives.kl import warn_if_useless
from rljax.objectives.reward_models import PAIRED
from rljax.registry.families.shared import CONTEXT_PATTERN_LIMIT

# Logits of 1e4 divided by this still have three digits behind the point in float32.
LOWEST_TEMPERATURE = 1e-3


def check_combinations(stage: Stage, where: str) -> None:
    """Raises ValueError for settings of a stage that do not go together, naming the fields.

    Args:
        stage: resolved.
        where: its path in the config.
    """
    objective, record = stage.objective, stage.objective.description
    if objective.choices.get("kl_placement") == "loss":
        warn_if_useless(objective.values["kl_estimator"])
    if objective.needs_groups and stage.batch.samples_per_prompt < 2:
        chosen = ", ".join(f"{name}={objective.choices[name]!r}" for name in record.group_baselines)
        raise ValueError(
            f"samples_per_prompt={stage.batch.samples_per_prompt} with a baseline over the group "
            f"({chosen}): at least 2 are needed ({where}.batch.samples_per_prompt)."
        )
    _check_temperature(stage, where)
    check_counters(stage, where)
    for name in record.checks:
        CHECKS[name](stage, where)
    if record.sources:
        check_source(stage, f"{where}.data")


def _check_temperature(stage: Stage, where: str) -> None:
    temperature = stage.token_filter.temperature
    sampled = stage.online or stage.data.get("source") in SAMPLED_SOURCES
    if sampled and temperature == 0:
        raise ValueError(
            "temperature=0 gives the same sample G times and no density to train on; it must be "
            f"> 0 ({where}.sampling.temperature)."
        )
    if 0 < temperature < LOWEST_TEMPERATURE:
        raise ValueError(
            f"temperature={temperature} divides logits until float32 cannot tell them apart; it "
            f"must be at least {LOWEST_TEMPERATURE} ({where}.sampling.temperature)."
        )


def reference_is_there(stage: Stage, where: str) -> None:
    """Raises ValueError for a cache of what no reference says."""
    folder = stage.data.get("reference_cache")
    if folder and not stage.needs_reference:
        raise ValueError(
            f"reference_cache={folder!r} is never read: method {stage.objective.method.name!r} has "
            f"no frozen reference ({where}.data.reference_cache)."
        )


def mismatched_prompts(stage: Stage, where: str) -> None:
    """Raises ValueError for an update in which no completion has another one's prompt."""
    sequences = stage.batch.sequences_per_update
    if "kl_baseline" in stage.objective.inputs and sequences < 2:
        raise ValueError(
            f"sequences_per_update={sequences} with link={stage.objective.choices['link']!r}: its "
            "baseline is measured on prompts with completions of other prompts, so at least 2 are "
            f"needed, and 16 or more advised ({where}.batch.sequences_per_update)."
        )


def goals_are_of_pairs(stage: Stage, where: str) -> None:
    """Raises ValueError for a term on the two sides of a pair with a loss of other rows."""
    choices = stage.objective.choices
    if choices["representation"] != "none" and choices["reward_loss"] not in PAIRED:
        raise ValueError(
            f"representation={choices['representation']!r} compares the sides of pairs, and "
            f"reward_loss={choices['reward_loss']!r} reads none; it must be "
            f"{' or '.join(map(repr, PAIRED))} ({where}.objective.representation, "
            f"{where}.objective.reward_loss)."
        )


def reward_texts_are_there(stage: Stage, where: str) -> None:
    """Raises ValueError for an empty text without which no later stage could read the model."""
    for name, why in (("step_separator", "separates nothing"), ("question", "asks nothing")):
        if stage.data.get(name) == "":
            raise ValueError(f"{name}='' {why} ({where}.data.{name}).")


def thoughts_cost_nats(stage: Stage, where: str) -> None:
    """Raises ValueError for a cost of thoughts in a bound that is no mean of log-likelihoods."""
    cost, bound = stage.objective.values["thought_cost"], stage.objective.choices["bound"]
    if cost and bound != "single_sample":
        raise ValueError(
            f"thought_cost={cost} is taken off the log-likelihood of a sample's answer, and bound="
            f"{bound!r} compares likelihoods: take bound='single_sample' or thought_cost=0 "
            f"({where}.objective.thought_cost, {where}.objective.bound)."
        )


def tools_of_files(stage: Stage, where: str) -> None:
    """Raises ValueError for weights of tool calls where no file says which tools there are."""
    weight, source = stage.objective.choices["token_weight"], stage.data["source"]
    if weight != "none" and source not in FILE_SOURCES:
        raise ValueError(
            f"token_weight={weight!r} reads rows of a file with tools, and source={source!r}; take "
            f"{' or '.join(map(repr, FILE_SOURCES))} ({where}.objective.token_weight, "
            f"{where}.data.source)."
        )


def hints(stage: Stage, where: str) -> None:
    """Raises ValueError for hints that cannot be written, or that no prompt would ever get."""
    pattern, keep = stage.data.get("hint_pattern"), stage.data.get("keep")
    if not pattern:
        return
    if not CONTEXT_PATTERN_LIMIT.fits(pattern):
        raise ValueError(
            f"hint_pattern={pattern!r} must be {CONTEXT_PATTERN_LIMIT.words} "
            f"({where}.data.hint_pattern)."
        )
    if keep != "right":
        raise ValueError(
            f"hint_pattern={pattern!r} is for prompts without a right sample, and keep={keep!r} "
            f"keeps wrong ones: it must be 'right' ({where}.data.hint_pattern, {where}.data.keep)."
        )


def marker_is_written(stage: Stage, where: str) -> None:
    """Raises ValueError for a marker that no demonstration holds, or that says nothing."""
    marker, learn = stage.data.get("unsure_marker", UNSURE), stage.data.get("learn")
    if marker != UNSURE and learn not in REWRITTEN:
        raise ValueError(
            f"unsure_marker={marker!r} is never read with learn={learn!r}; those that write it: "
            f"{', '.join(map(repr, REWRITTEN))} ({where}.data.unsure_marker, {where}.data.learn)."
        )
    if (rank := stage.data.get("answer_rank")) and learn not in REWRITTEN:
        raise ValueError(
            f"answer_rank={rank} is never read with learn={learn!r}; those that rank answers by "
            f"their steps: {', '.join(map(repr, REWRITTEN))} ({where}.data.answer_rank, "
            f"{where}.data.learn)."
        )
    if not marker.strip():
        raise ValueError(
            f"unsure_marker={marker!r} is empty; an answer says it ({where}.data.unsure_marker)."
        )


def phrases_are_read(stage: Stage, where: str) -> None:
    """Raises ValueError for error phrases that no conversation is read for, or an empty one."""
    phrases, learn = stage.data.get("error_phrases", ()), stage.data.get("learn")
    field = f"{where}.data.error_phrases"
    if phrases and learn != "all":
        raise ValueError(
            f"error_phrases={tuple(phrases)!r} is never read with learn={learn!r}: 'all' learns "
            f"several messages of the assistant ({field}, {where}.data.learn)."
        )
    if not all(phrase.strip() for phrase in phrases):
        raise ValueError(
            f"error_phrases={tuple(phrases)!r} holds an empty text, which every answer of a tool "
            f"holds ({field})."
        )


CHECKS: dict[str, Callable[[Stage, str], None]] = {
    "distillation": check_distillation,
    "thoughts_cost_nats": thoughts_cost_nats,
    "tools_of_files": tools_of_files,
    "marker_is_written": marker_is_written,
    "phrases_are_read": phrases_are_read,
    "teacher": check_teacher,
    "guide": check_guide,
    "policy_gradient": check_policy_gradient,
    "curriculum": check_curriculum,
    "order": check_order,
    "sampled_rounds": check_sampled_rounds,
    "goals_are_of_pairs": goals_are_of_pairs,
    "reward_texts_are_there": reward_texts_are_there,
    "posterior": check_posterior,
    "preference": check_preference,
    "reference_is_there": reference_is_there,
    "mismatched_prompts": mismatched_prompts,
    "hints": hints,
}
