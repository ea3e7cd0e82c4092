"""Published faults, put back in: the first step stops each of them."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from rljax.data.text_format import TextFormat
from rljax.parallel.rules import put_rows
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.families.preference import Preference
from rljax.training.families.supervised import Supervised
from rljax.training.self_check.first_step import FirstStep
from rljax.training.update.optimizers import build_optimizer
from tests.training.steps import source_state

FAMILIES = {"grpo": PolicyGradient, "dpo_file": Preference}


class Stand:
    """A stage before its first step, with its checks."""

    def __init__(self, made, family):
        self.made, self.family, self.text = made, family, io.StringIO()
        made.context.workdir.mkdir(exist_ok=True)
        self.first = FirstStep(
            family,
            begins=True,
            at_start=True,
            workdir=made.context.workdir,
            console=Console(file=self.text, width=200),
        )
        self.state = made.state

    def collect(self):
        state = source_state(self.family, 1)
        self.experience, _ = self.family.source.collect(self.family.policy(self.state, 1), state, 1)
        self.state, self.batches = self.family.batches(self.state, self.experience, 1)

    def check_batch(self):
        self.first.before(self.state, self.experience.samples, self.batches)

    def check_update(self):
        optimizer = build_optimizer(self.made.stage)
        update = self.family.make_update(
            optimizer, purpose_key(self.made.context.config.seed, Purpose.ROUNDING)
        )
        batch = put_rows(self.batches.batches[0], self.made.context.mesh)
        self.state, metrics = update(self.state, self.made.context.frozen, batch)
        self.first.after(self.state, self.batches, metrics)

    def run(self):
        self.collect()
        self.check_batch()
        self.check_update()


@pytest.fixture
def stand(pieces):
    def make(variant: str, *overrides: str) -> Stand:
        made = pieces(variant, *overrides)
        reference = made.params if made.stage.needs_reference else None
        return Stand(made, FAMILIES[variant](made.context, made.stage, reference, 0))

    return make


@pytest.mark.parametrize("variant", FAMILIES)
def test_a_sound_step_passes_and_shows_an_example(stand, variant):
    made = stand(variant)
    made.run()
    assert "first example" in made.text.getvalue()
    kept = made.made.context.workdir / "examples" / f"{made.family.stage.name}.json"
    example = json.loads(kept.read_text())
    assert len(example["tokens"]) == len(example["ids"]) == len(example["kinds"]) > 6
    assert example["kinds"][0] == "prompt" and "learned" in example["kinds"]
    if variant == "dpo_file":
        assert example["kinds"][-1] == "end" and example["tokens"][-1] == "<eos>"


def changed(batch, **arrays):
    return {**batch, **arrays}


def put(made, **arrays):
    """Changes arrays of the first batch."""
    first = made.batches.batches[0]
    made.batches = made.batches._replace(batches=[changed(first, **arrays)])


def test_ends_that_are_masked_out(stand):
    """Where pad is eos, masks made from ids lose it (trl#1623)."""
    made = stand("dpo_file", "--config.dpo_file.batch.share_prompts=False")
    made.collect()
    first = made.batches.batches[0]
    completions = first["tokens"][..., -first["mask"].shape[-1] :]
    put(made, mask=first["mask"] & (completions != made.made.context.tokenizer.eos_id))
    with pytest.raises(ValueError, match="Example 0 .* '<eos>' .258., which is not learned"):
        made.check_batch()


@pytest.mark.parametrize("selects", [False, True])
def test_ends_that_a_selection_of_tokens_leaves_out_are_no_fault(stand, selects):
    """A policy that is sure of its ends learns what it is not sure of."""
    often = "--config.grpo.sampling.logit_bias=((258, 5.0),)"
    words = ["--config.grpo.objective.selection=uncertain"] if selects else []
    made = stand("grpo", often, *words)
    made.collect()
    first = made.batches.batches[0]
    mask, slots = first["mask"], int(np.prod(first["mask"].shape[1:]))
    ends = first["tokens"][:, -slots:].reshape(mask.shape) == 258
    assert (mask & ends).any() and made.made.context.text_format.ends == (258,)
    put(made, mask=mask & ~ends)
    if selects:
        return made.check_batch()
    with pytest.raises(ValueError, match="which is not learned"):
        made.check_batch()


def test_completions_without_an_end(stand, monkeypatch):
    """Templates that close no turn: the model never stops (trl PR#6357)."""
    monkeypatch.setattr(
        TextFormat, "completion", lambda self, prompt, text, where: self.tokenizer.encode(text)
    )
    made = stand("dpo_file")
    made.collect()
    with pytest.raises(ValueError, match="which ends no completion: a model that learns this"):
        made.check_batch()


def test_completions_that_lose_a_token_to_the_prompt(stand):
    """A template whose prefix changes shifts what is learned (trl PR#6433)."""
    made = stand("dpo_file")
    made.collect()
    put(made, mask=np.roll(made.batches.batches[0]["mask"], -1, axis=-1))
    with pytest.raises(ValueError, match="'<eos>' .258., which is not learned"):
        made.check_batch()


def test_another_temperature_in_the_trainer(stand):
    """Several stacks scored tempered samples with the raw logits (PITFALLS 8)."""
    made = stand("grpo", "--config.grpo.sampling.temperature=0.7")
    made.collect()
    reported = made.batches.batches[0]["behavior_logprobs"]
    put(made, behavior_logprobs=reported / 0.7)
    with pytest.raises(ValueError, match="Sampler and trainer differ by"):
        made.check_batch()
        made.check_update()


def test_log_probabilities_of_another_distribution(stand):
    """Truncation in the sampler that its log-probabilities leave out (PITFALLS 16)."""
    made = stand("grpo")
    made.collect()
    first = made.batches.batches[0]
    put(made, behavior_logprobs=first["behavior_logprobs"] - 0.05 * first["mask"])
    with pytest.raises(ValueError, match="Sampler and trainer differ by 0.05"):
        made.check_batch()
        made.check_update()


def test_samples_of_stale_weights(stand):
    """A sampler that was not given the new parameters."""
    made = stand("grpo")
    stale = jax.tree.map(lambda leaf: leaf * 1.3, made.made.params)
    policy = made.family.policy
    made.family.policy = lambda state, step: policy(state, step)._replace(params=stale)
    made.collect()
    with pytest.raises(ValueError, match="Sampler and trainer differ by"):
        made.check_batch()
        made.check_update()


def test_old_log_probabilities_of_another_policy(stand):
    """A field that nothing wrote was read as the old policy's (PITFALLS 4)."""
    made = stand("grpo")
    made.collect()
    first = made.batches.batches[0]
    shape = first["mask"].shape
    put(made, old_logprobs=np.full(shape, -1.0, np.float32))
    with pytest.raises(ValueError, match="differ by|every ratio is 1"):
        made.check_batch()
        made.check_update()


def test_logits_that_were_never_normalised(stand):
    """Log-probabilities above 0."""
    made = stand("grpo")
    made.collect()
    first = made.batches.batches[0]
    put(made, behavior_logprobs=first["behavior_logprobs"] + 40)
    with pytest.raises(ValueError, match="behavior_logprobs of token 0 of sequence 0 .* <= 0"):
        made.check_batch()


def test_a_layer_that_breaks_is_named(stand):
    """NaN in a layer: the sampler stops at it already."""
    made = stand("dpo_file")
    broken = jax.tree.map(lambda leaf: leaf, made.state.params)
    name, leaf = next(iter(jax.tree_util.tree_leaves_with_path(broken["blocks"])))
    del name
    broken["blocks"] = jax.tree.map(lambda x: x * jnp.nan if x is leaf else x, broken["blocks"])
    made.state = made.state.replace(params=broken)
    made.collect()
    made.check_batch()
    with pytest.raises(ValueError, match="first loss is no finite number: the output of layer 0"):
        made.check_update()


def test_a_reference_that_is_another_model(stand):
    """A reference cache of other weights (trl#6291): DPO's first loss is not ln 2."""
    made = stand("dpo_file")
    made.family.reference = jax.tree.map(lambda leaf: leaf * 1.5, made.made.params)
    made.collect()
    made.check_batch()
    with pytest.raises(ValueError, match="The first loss is .*; where the policy .* 0.693147"):
        made.check_update()


def test_a_loss_that_is_counted_six_times(stand):
    """Packing made DPO's first loss six times ln 2 (open-instruct PR#1900)."""
    made = stand("dpo_file")
    made.collect()
    made.check_batch()
    put(made, weights=6 * made.batches.batches[0]["weights"])
    with pytest.raises(ValueError, match="The first loss is 4.15.*0.693147 .config.checks.closed"):
        made.check_update()


def test_a_policy_that_is_not_its_reference(stand):
    """The KL to the start is 0 at the start."""
    made = stand("grpo", "--config.grpo.reference_kl=True")
    made.family.reference = jax.tree.map(lambda leaf: leaf * 1.5, made.made.params)
    made.collect()
    made.check_batch()
    with pytest.raises(ValueError, match="kl_to_start of the first update is "):
        made.check_update()


def test_tokens_that_are_not_the_text(pieces, monkeypatch):
    """A tokenizer that puts a space before each answer (sentencepiece)."""
    encode = TextFormat.completion
    monkeypatch.setattr(TextFormat, "completion", lambda self, *args: [32, *encode(self, *args)])
    made = pieces("grpo")
    warmup = made.context.stages[0]
    with pytest.raises(ValueError, match="problems.jsonl, line 1: prompt and completion are not"):
        Supervised.check(made.context, warmup)


def test_each_check_can_be_switched_off(stand):
    words = ("ends", "logprobs", "sampler_gap", "ratio", "closed_form", "example", "tokens")
    made = stand("dpo_file", *(f"--config.checks.{word}=False" for word in words))
    made.collect()
    first = made.batches.batches[0]
    put(made, mask=np.roll(first["mask"], -1, axis=-1), weights=6 * first["weights"])
    made.check_batch()
    made.check_update()
    assert not made.text.getvalue()
