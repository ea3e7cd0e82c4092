"""Models that read the policy's tokens have its tokenizer, and a teacher something to teach."""

import dataclasses

import jax
import pytest

from rljax.config.validate import validate
from rljax.data.byte_files import write_byte_tokenizer
from rljax.data.tokenizers import ByteTokenizer, SymbolTokenizer, load_tokenizer
from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.models.pretrained import save_pretrained
from rljax.parallel.mesh import make_mesh
from rljax.training.run import models
from rljax.training.run.context import build_context
from rljax.training.run.tokenizers import first_difference

CONFIG = ModelConfig(
    vocab_size=261, layers=1, width=16, heads=2, kv_heads=1, head_dim=8, mlp_width=32
)


def mesh():
    return make_mesh({"data": -1})


def test_the_first_token_that_differs_is_named():
    ours = ByteTokenizer(("<a>", "<b>"))
    assert first_difference(ours, ByteTokenizer(("<a>", "<b>"))) is None
    other = first_difference(ours, ByteTokenizer(("<a>", "<c>")))
    assert other == "id 260 is '<c>' there and '<b>' here"
    shorter = first_difference(ours, ByteTokenizer(("<a>",)))
    assert shorter == "id 260 is 'no token' there and '<b>' here"
    assert "id 0" in first_difference(ours, SymbolTokenizer())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"vocab_size": 260}, "has 260 tokens, the policy 261: .* needs the same tokenizer"),
        ({"head": "reward"}, "a teacher predicts the next token"),
    ],
)
def test_a_teacher_that_cannot_be_compared_with_is_refused(
    tiny_config, monkeypatch, changes, message
):
    stages = validate(tiny_config("gkd"))
    found = dataclasses.replace(CONFIG, **changes)
    monkeypatch.setattr(models, "model_of_role", lambda folder, policy: found)
    outside = dataclasses.replace(stages[1], models={"teacher": {"start_from": "/elsewhere"}})
    with pytest.raises(ValueError, match=message):
        models.check_models(
            Network.create(CONFIG), (stages[0], outside), 0, make_mesh({"data": -1})
        )


def test_rows_that_only_pad_the_vocabulary_are_no_other_tokenizer(tiny_config, tmp_path):
    pytest.importorskip("transformers")
    network = Network.create(dataclasses.replace(CONFIG, vocab_size=300))
    save_pretrained(tmp_path, network, network.init(jax.random.key(0), mesh()))

    def error_of(*more_tokens):
        config = tiny_config("gkd", f"--config.gkd.models.teacher.start_from={tmp_path}")
        special_tokens = (*config.tokenizer.special_tokens, *more_tokens)
        write_byte_tokenizer(tmp_path, ByteTokenizer(special_tokens))
        with pytest.raises(ValueError) as error:
            build_context(config, validate(config), tmp_path)
        return str(error.value)

    said = error_of()
    size = ByteTokenizer(tuple(tiny_config("gkd").tokenizer.special_tokens)).vocab_size
    assert f"has 300 tokens, the policy {size}: both have the same tokenizer" in said
    assert f"save the larger model with {size} rows" in said
    assert f"has another tokenizer than the policy: id {size} is '<x>' there" in error_of("<x>")


def test_a_teacher_that_the_policy_starts_as_is_refused(tiny_config):
    sizes = "--config.grpo.batch.sequences_per_update=32"
    config = tiny_config("grpo", "--config.grpo.method=opd", sizes)
    with pytest.raises(ValueError, match="names none: an earlier stage"):
        validate(config)
    with config.unlocked():
        config.grpo.models.teacher.start_from = "warmup"
    stages, network = validate(config), Network.create(CONFIG)
    with pytest.raises(ValueError, match="every log-ratio is 0"):
        models.check_models(network, stages, 0, mesh())
    # Beside a reward the policy moves, and is held back.
    with config.unlocked():
        config.grpo.objective.reward_weight = 1.0
    models.check_models(network, validate(config), 0, mesh())


def test_bytes_and_their_export_are_the_same_tokens(tmp_path):
    pytest.importorskip("transformers")
    ours = ByteTokenizer(("<a>", "<b>"))
    write_byte_tokenizer(tmp_path, ours)
    exported = load_tokenizer(str(tmp_path))
    assert first_difference(ours, exported) is None
    assert first_difference(exported, ours) is None
    other = first_difference(ByteTokenizer(("<a>", "<c>")), exported)
    assert other == "id 260 is '<b>' there and '<c>' here"
