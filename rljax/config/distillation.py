"""Combinations of a distillation stage that cannot work, refused before anything runs."""

from rljax.config.stage import Stage
from rljax.registry.families.distillation import OF_SAMPLES


def needs_teacher(stage: Stage, where: str) -> None:
    """Raises ValueError for a stage that reads a teacher and names none."""
    if stage.objective.needs_teacher and "teacher" not in stage.models:
        raise ValueError(
            f"Method {stage.objective.method.name!r} learns from a teacher, and the stage names "
            "none: an earlier stage, model, a checkpoint of another run or a published folder "
            f"({where}.models.teacher.start_from)."
        )


def check_teacher(stage: Stage, where: str) -> None:
    """Raises ValueError for a teacher of policy gradients that cannot be compared with."""
    needs_teacher(stage, where)
    choices, kept = stage.objective.choices, stage.token_filter
    if choices["teacher"] == "none":
        return
    if kept.truncates or kept.logit_bias:
        raise ValueError(
            f"teacher={choices['teacher']!r} compares log-probabilities of the whole vocabulary: "
            "sample without top_k, top_p, min_p and logit_bias "
            f"({where}.objective.teacher, {where}.sampling)."
        )
    if choices["rollouts"] != "whole":
        raise ValueError(
            f"teacher={choices['teacher']!r} scores whole completions, and rollouts="
            f"{choices['rollouts']!r} ({where}.objective.teacher, {where}.objective.rollouts)."
        )
    if choices["demonstrations"] != "none":
        raise ValueError(
            f"teacher={choices['teacher']!r} scores samples of the policy, and demonstrations="
            f"{choices['demonstrations']!r} puts others among them ({where}.objective.teacher, "
            f"{where}.objective.demonstrations)."
        )


def check_distillation(stage: Stage, where: str) -> None:
    """Raises ValueError for settings that do not go together, naming the fields."""
    choices, values = stage.objective.choices, stage.objective.values
    off_policy, divergence = choices["off_policy"], choices["divergence"]
    share = values.get("on_policy_share", 1.0)
    if divergence == "likelihood" and share > 0:
        raise ValueError(
            f"divergence='likelihood' with on_policy_share={share} would make the policy's own "
            "samples likelier, whatever they are: set 0 and an off_policy source "
            f"({where}.objective.on_policy_share, {where}.objective.off_policy)."
        )
    if values.get("likelihood_share", 0.0) > 0 and share > 0:
        raise ValueError(
            f"likelihood_share={values['likelihood_share']} with on_policy_share={share} would "
            "make the policy's own samples likelier, whatever they are: set 0 of one "
            f"({where}.objective.likelihood_share, {where}.objective.on_policy_share)."
        )
    if divergence == "likelihood" and off_policy == "demonstrations":
        raise ValueError(
            "divergence='likelihood' with off_policy='demonstrations' asks no teacher: that is "
            f"method 'sft' ({where}.method, {where}.objective.off_policy)."
        )
    if divergence == "likelihood" and choices["support"] != "full":
        raise ValueError(
            f"support={choices['support']!r} is never read with divergence='likelihood' "
            f"({where}.objective.support)."
        )
    told = choices["teacher_context"]
    if told != "same" and (divergence == "likelihood" or off_policy == "teacher"):
        raise ValueError(
            f"teacher_context={told!r} is what a teacher reads that compares, and not one that "
            f"writes: divergence={divergence!r}, off_policy={off_policy!r} "
            f"({where}.objective.teacher_context)."
        )
    if told in OF_SAMPLES:
        _check_sample_context(stage, where)
    if choices["teacher_update"] != "none":
        _check_live_teacher(stage, where)
    if off_policy == "demonstrations" and stage.batch.samples_per_prompt > 1:
        raise ValueError(
            f"samples_per_prompt={stage.batch.samples_per_prompt}: a prompt has one demonstration, "
            "so with off_policy='demonstrations' it must be 1 "
            f"({where}.batch.samples_per_prompt)."
        )
    needs_teacher(stage, where)


def _check_sample_context(stage: Stage, where: str) -> None:
    """What is told of a sample: of the policy's own, found among several, and it has to fit."""
    choices, field = stage.objective.choices, f"{where}.objective.teacher_context"
    told = choices["teacher_context"]
    if choices["off_policy"] != "none":
        raise ValueError(
            f"teacher_context={told!r} tells the teacher of the samples of the step, and "
            f"off_policy={choices['off_policy']!r} has steps without any "
            f"({where}.objective.off_policy, {field})."
        )
    if told != "feedback" and stage.batch.samples_per_prompt < 2:
        raise ValueError(
            f"samples_per_prompt={stage.batch.samples_per_prompt}: teacher_context={told!r} needs "
            f"another sample of the prompt ({where}.batch.samples_per_prompt, {field})."
        )
    if stage.batch.share_prompts:
        raise ValueError(
            f"share_prompts=True: with teacher_context={told!r} every sample has a prompt of its "
            f"own ({where}.batch.share_prompts, {field})."
        )
    if told != "feedback" and stage.data["max_context_tokens"] <= stage.max_new_tokens:
        raise ValueError(
            f"max_context_tokens={stage.data['max_context_tokens']} has no room for a sample of "
            f"max_new_tokens={stage.max_new_tokens} and the words around it "
            f"({where}.data.max_context_tokens, {field})."
        )


def _check_live_teacher(stage: Stage, where: str) -> None:
    """A teacher with a part of the policy is compared with it, and has to say something else."""
    choices, field = stage.objective.choices, f"{where}.objective.teacher_update"
    update = choices["teacher_update"]
    if choices["divergence"] == "likelihood" or choices["off_policy"] == "teacher":
        raise ValueError(
            f"teacher_update={update!r} is a teacher that compares, and with divergence="
            f"{choices['divergence']!r} and off_policy={choices['off_policy']!r} one writes "
            f"({field})."
        )
    alone = update == "moving" and stage.objective.values["likelihood_share"] == 0
    if choices["teacher_context"] == "same" and alone:
        raise ValueError(
            "teacher_update='moving' with teacher_context='same' begins as the policy and reads "
            "what it reads: every divergence is 0, and nothing is learned "
            f"({where}.objective.teacher_context, {field})."
        )
