"""Writing checkpoints: shards, types, what is carried along, and what is refused."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from pretrained_cases import FIXTURES

from rljax.models.config import LoRAConfig
from rljax.models.network import Network
from rljax.models.pretrained import load_params, read_config, save_pretrained
from rljax.models.pretrained.files import unread_files
from rljax.models.pretrained.tensor_files import stored_tensors


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_shards_are_no_larger_than_asked_and_read_back(load_case, one_device, tmp_path):
    case = load_case("qwen3")
    out = tmp_path / "out"
    save_pretrained(out, case.network, case.params, max_shard_bytes=8_000)
    shards = sorted(out.glob("*.safetensors"))
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert len(shards) > 5
    assert [path.name for path in shards][
        -1
    ] == f"model-{len(shards):05}-of-{len(shards):05}.safetensors"
    header = 8 + 1200
    assert all(path.stat().st_size <= 8_000 + header for path in shards)
    assert index["weight_map"] == {name: t.path.name for name, t in stored_tensors(out).items()}
    sizes = sum(4 * np.prod(tensor.shape) for tensor in stored_tensors(out).values())
    assert index["metadata"]["total_size"] == sizes
    jax.tree.map(
        np.testing.assert_array_equal, load_params(out, case.network, one_device), case.params
    )


def test_files_of_the_source_are_carried_along(load_case, tmp_path):
    case, source = load_case("qwen2_tied"), tmp_path / "source"
    source.mkdir()
    carried = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
               "special_tokens_map.json", "chat_template.jinja", "generation_config.json",
               "tokenizer.model", "modeling_own.py"}  # fmt: skip
    carried |= {"additional_chat_templates/rag.jinja", "spiece.model", "tekken.json",
                "qwen.tiktoken", "preprocessor_config.json", "bpe.codes", "LICENSE"}  # fmt: skip
    (source / "additional_chat_templates").mkdir()
    left = ("README.md", "pytorch_model.bin", "training_args.json", "trainer_state.json", "x.gguf",
            "adapter_config.json", ".gitattributes")  # fmt: skip
    for name in (*carried, *left):
        (source / name).write_text(name)
    values = json.loads((case.folder / "config.json").read_text())
    values |= {"auto_map": {"AutoModel": "modeling_own.Own"}, "bos_token_id": 7}
    (source / "config.json").write_text(json.dumps(values))
    save_pretrained(tmp_path / "out", case.network, case.params, source=source,
                    more_config={"eos_token_id": [5, 6]})  # fmt: skip
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*")}
    written = {"config.json", "model.safetensors", "additional_chat_templates"}
    assert found == carried | written
    assert unread_files(source) == sorted(left)
    assert (tmp_path / "out" / "merges.txt").read_text() == "merges.txt"
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["auto_map"] == values["auto_map"] and written["bos_token_id"] == 7
    assert written["eos_token_id"] == [5, 6]
    assert written["max_position_embeddings"] == 64


def test_a_link_out_of_the_folder_is_not_carried(load_case, tmp_path):
    case, source = load_case("qwen2_tied"), tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text((case.folder / "config.json").read_text())
    (tmp_path / "secret").write_text("secret")
    (source / "vocab.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="vocab.json is a link to .*secret, out of its folder"):
        save_pretrained(tmp_path / "out", case.network, case.params, source=source)
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_may_be_another_than_the_sources(load_case, tmp_path):
    case, source, tokenizer = load_case("qwen2_tied"), tmp_path / "source", tmp_path / "tokenizer"
    for folder, files in (
        (source, ("merges.txt", "tokenizer.json", "generation_config.json", "modeling_own.py")),
        (tokenizer, ("tokenizer.json", "chat_template.jinja", "generation_config.json", "own.py")),
    ):
        folder.mkdir()
        for name in files:
            (folder / name).write_text(folder.name)
    (source / "config.json").write_text((case.folder / "config.json").read_text())
    out = tmp_path / "out"
    save_pretrained(out, case.network, case.params, source=source, tokenizer=tokenizer)
    kept = {path.name: path.read_text() for path in out.iterdir() if "model." not in path.name}
    del kept["config.json"]
    assert kept == {
        "tokenizer.json": "tokenizer",
        "chat_template.jinja": "tokenizer",
        "generation_config.json": "source",
        "modeling_own.py": "source",
    }


def test_a_folder_with_something_in_it_is_left_alone(load_case, tmp_path):
    case = load_case("qwen3")
    (tmp_path / "out").mkdir()
    save_pretrained(tmp_path / "out", case.network, case.params)  # empty: fine
    before = names(tmp_path / "out")
    with pytest.raises(ValueError, match="is there already, and not an empty folder"):
        save_pretrained(tmp_path / "out", case.network, case.params)
    assert names(tmp_path / "out") == before


def test_a_write_that_fails_leaves_nothing(load_case, tmp_path, monkeypatch):
    case = load_case("qwen3")
    from rljax.models.pretrained import save

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(save, "_write_rest", fail)
    with pytest.raises(OSError, match="disk full"):
        save_pretrained(tmp_path / "out", case.network, case.params)
    assert not list(tmp_path.iterdir())


def test_leftovers_of_a_killed_write_are_replaced(load_case, tmp_path):
    case = load_case("qwen3")
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "old").touch()
    save_pretrained(tmp_path / "out", case.network, case.params)
    assert names(tmp_path) == {"out"}
    assert names(tmp_path / "out") == {"config.json", "model.safetensors"}


def test_adapters_must_be_merged_first(load_case, one_device, tmp_path):
    case = load_case("qwen3")
    lora = LoRAConfig(rank=2, alpha=2.0)
    network = Network.create(read_config(case.folder, lora=lora))
    params = load_params(case.folder, network, one_device, key=jax.random.key(0))
    with pytest.raises(ValueError, match="merge them into the base first"):
        save_pretrained(tmp_path / "out", network, params)


def test_a_source_of_another_family_is_refused(load_case, tmp_path):
    case = load_case("qwen3")
    with pytest.raises(ValueError, match="not of the family of .*query_key_norm='head' is 'none'"):
        save_pretrained(
            tmp_path / "out", case.network, case.params, source=FIXTURES / "llama_linear"
        )


def test_unknown_types_are_refused(load_case, tmp_path):
    case = load_case("qwen3")
    with pytest.raises(ValueError, match="Unknown dtype 'int8'; known: float32, bfloat16"):
        save_pretrained(tmp_path / "out", case.network, case.params, dtype="int8")
