"""Names of other libraries lead to fields that exist."""

import re
from pathlib import Path

import pytest

from rljax.config.fields import Field
from rljax.config.load import complete
from rljax.config.other_names import OTHER_NAMES, as_markdown, hint
from rljax.config.schema import ROOT
from rljax.config.schema_model import MODEL
from rljax.config.schema_stage import STAGE
from rljax.config.unknown import check_family
from rljax.registry import FAMILIES, METHODS, objective_fields

KNOWN = {
    *("beta", "num_generations", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("ppo_mini_batch_size", "ppo_micro_batch_size_per_gpu", "kl_coef", "kl_loss_coef"),
    *("cliprange", "epsilon_high", "max_completion_length", "max_prompt_length", "rollout.n"),
    *("temperature", "num_iterations", "loss_type", "scale_rewards", "ref_model_sync_steps"),
    *("use_vllm", "lr", "precompute_ref_log_probs", "truncation_mode", "rpo_alpha", "simpo_gamma"),
    *("cpo_alpha", "f_divergence_type", "ld_alpha", "use_weighting", "loss_weights", "lmbda"),
    *("label_smoothing", "center_rewards_coefficient", "seq_kd", "teacher_model_name_or_path"),
    *("completion_only_loss", "assistant_only_loss"),
}


@pytest.mark.parametrize("each", OTHER_NAMES, ids=lambda each: f"{each.theirs}, {each.stack}")
def test_ours_is_a_field(each):
    assert each.ours or each.note
    if not each.ours:
        return
    entry = {"config": {**ROOT, "STAGE": STAGE}}
    for part in each.ours.split("."):
        entry = entry[part]
    assert isinstance(entry, Field)


def test_what_most_people_write_is_in_the_table():
    assert {each.theirs for each in OTHER_NAMES} >= KNOWN
    assert len({(each.theirs, each.stack) for each in OTHER_NAMES}) == len(OTHER_NAMES)
    assert all(each.theirs in as_markdown() for each in OTHER_NAMES)


def test_options_that_notes_name_exist():
    """Words in quotes, and those with underscores."""
    choices = [options for family in FAMILIES.values() for options in family.choices.values()]
    known = {option for options in choices for option in options} | set(METHODS)
    known |= {name for family in FAMILIES for name in objective_fields(family)}
    known |= {*MODEL["remat"].choices, *MODEL["dtype"].choices, *STAGE["batch"], *MODEL}
    known |= {*ROOT["data"], *STAGE["data"]["truncation"].choices, *STAGE["data"]["learn"].choices}
    theirs = {"low_var_kl", "js_divergence", *(each.theirs for each in OTHER_NAMES)}
    for each in OTHER_NAMES:
        named = re.findall(r"'(\w+)'|\b(\w+_\w+)\b", each.note)
        words = {word for pair in named for word in pair if word} - theirs
        assert words <= known | {"weight"}, each


@pytest.mark.parametrize(
    "section, name, message",
    [
        ("batch", "num_generations", "is called config.s.batch.samples_per_prompt here"),
        ("objective", "kl_loss_coef", "of verl is called config.s.objective.kl_weight here"),
        ("optimizer", "lr", "is called config.s.optimizer.learning_rate here"),
        ("sampling", "use_vllm", "has no field here: the sampler is part of rljax"),
        ("batch", "max_prompt_length", "is called config.data.max_prompt_tokens here"),
    ],
)
def test_errors_say_our_name(section, name, message):
    config = {"stages": ("s",), "s": {"method": "grpo", section: {name: 1}}}
    with pytest.raises(ValueError, match=message):
        complete(config)


@pytest.mark.parametrize(
    "method, messages",
    [
        ("grpo", ["beta of TRL, tunix (GRPO) is called config.s.objective.kl_weight here"]),
        ("gkd", ["beta of TRL (GKD) is called config.s.objective.other_share here (its ends"]),
        ("gkd", ["kl_weight here. beta of TRL (GKD)"]),
    ],
)
def test_a_name_of_several_trainers_leads_to_each_field(method, messages):
    config = {"stages": ("s",), "s": {"method": method, "objective": {"beta": 0.1}}}
    config = complete(config)
    with pytest.raises(ValueError) as error:
        check_family("s", config)
    assert all(each in str(error.value) for each in messages)
    # Where it was just refused it is not said to be.
    assert "objective.beta here" not in str(error.value)


def test_the_room_of_pairs_is_no_row():
    said = hint("max_length", "config.s.data")
    assert "config.s.data.row_tokens here" in said
    assert "config.s.data.max_completion_tokens here (and data.max_prompt_tokens" in said


def test_a_name_that_nobody_uses_has_no_hint():
    assert hint("no_such_thing", "config.s.batch") == ""


def test_the_guide_shows_the_table():
    text = (Path(__file__).parents[2] / "configs/README.md").read_text()
    assert as_markdown() in text
