"""launch/export.py on checkpoints of runs: full, and adapters on a base."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from rljax.config.load import load_config
from rljax.config.model import resolve_model
from rljax.config.reward_role import recorded_form
from rljax.config.validate import plain, resolved_dict, validate
from rljax.data.pad_token import pad_that_ends_nothing, with_pad_token
from rljax.data.tokenizers import ByteTokenizer
from rljax.models.lora import combine, merge_adapters
from rljax.models.network import Network, Params
from rljax.models.peft_format import load_adapters, read_adapter_config
from rljax.models.pretrained import load_params, read_config
from rljax.models.pretrained.checks import SCORED_AS
from rljax.training.run.checkpoints import Checkpoints
from rljax.training.run.start import Source, base_note, load_start
from rljax.training.update.rows import completion_rows
from rljax.training.update.sequence_scores import completion_scores
from rljax.training.update.state import create_state, state_shardings

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[2]
FAMILY_OPTIONS = dict(layers=2, width=16, heads=2, kv_heads=1, query_key_norm="head")


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("export_command", ROOT / "launch/export.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_run(tmp_path, one_device):
    """make_run(**model): a workdir with a checkpoint of step 3, and the whole model in it."""

    def make(head="language_model", separator="", **model) -> tuple[Path, Network, Params]:
        path, workdir = tmp_path / "config.py", tmp_path / "run"
        stage = dict(method="sft")
        if head == "reward":
            method = "process_reward" if separator else "bradley_terry"
            stage = dict(method=method, network=dict(head=head), data=dict(path="pairs"))
            stage["data"] |= {"step_separator": separator} if separator else {}
        path.write_text(
            "from ml_collections import ConfigDict\n"
            "def get_config(arg=''):\n"
            f"    model, tasks = {model!r}, (dict(name='chain_sum'),)\n"
            "    return ConfigDict(dict(name='small', stages=('s',), model=model,\n"
            "        data=dict(tasks=tasks), tokenizer=dict(path='byte'),\n"
            f"        s={stage!r}))\n"
        )
        config = load_config(path)
        shape = resolve_model(config.model, ByteTokenizer().vocab_size)
        network = Network.create(dataclasses.replace(shape, head=head))
        source, optimizer = Source.of(config), optax.sgd(0.1)
        params, frozen = load_start(source, network, one_device)
        # Adapters begin at zero; those of a trained model are not.
        moved = jax.tree.map(lambda leaf: leaf + 0.1, params)
        whole = jax.tree.map(np.asarray, combine(moved, frozen))
        state = create_state(moved, optimizer, state_shardings(network, optimizer, one_device))
        checkpoints = Checkpoints(workdir / "checkpoints" / "s", keep=1)
        checkpoints.save(3, state, base_note(source, network), None)
        checkpoints.close()
        resolved = resolved_dict(config, validate(config))
        resolved["network"] = plain(dataclasses.asdict(network.config))
        (workdir / "config.json").write_text(json.dumps(resolved))
        return workdir, network, whole

    return make


def test_a_model_from_scratch(make_run, command, one_device, tmp_path, capsys):
    workdir, network, params = make_run(**FAMILY_OPTIONS)
    out = tmp_path / "out"
    assert command.main([f"--checkpoint={workdir}/checkpoints/s", f"--out={out}"]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    values = json.loads((out / "config.json").read_text())
    assert values["model_type"] == "qwen3" and values["torch_dtype"] == "float32"
    assert (values["pad_token_id"], values["bos_token_id"], values["eos_token_id"]) == (
        256,
        257,
        258,
    )
    read = Network.create(read_config(out))
    found = load_params(out, read, one_device)
    vocabulary = network.config.vocab_size
    np.testing.assert_array_equal(
        found["embedding"][:vocabulary], params.pop("embedding")[:vocabulary]
    )
    del found["embedding"]
    jax.tree.map(np.testing.assert_array_equal, found, params)


def test_the_tokenizer_of_the_run_goes_along(make_run, command, tmp_path, monkeypatch):
    workdir, _, _ = make_run(**FAMILY_OPTIONS)
    folder, path, out = tmp_path / "tokenizer", workdir / "config.json", tmp_path / "out"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("of the run")
    config = json.loads(path.read_text())
    path.write_text(
        json.dumps(config | {"tokenizer": {**config["tokenizer"], "path": str(folder)}})
    )
    monkeypatch.setattr(command, "load_tokenizer", lambda *arguments: ByteTokenizer())
    monkeypatch.chdir(folder)  # any directory will do
    assert command.main([f"--checkpoint={workdir}/checkpoints/s", f"--out={out}"]) == 0
    assert (out / "tokenizer.json").read_text() == "of the run"


def test_bytes_and_their_template_go_along(make_run, command, tmp_path):
    """transformers reads texts and chats of the exported folder as the run did."""
    transformers = pytest.importorskip("transformers")
    workdir, _, _ = make_run(**FAMILY_OPTIONS)
    path, out = workdir / "config.json", tmp_path / "out"
    config = json.loads(path.read_text())
    config["tokenizer"] |= {"special_tokens": ["<think>"], "chat_turn": "{role}: {content}|"}
    path.write_text(json.dumps(config))
    assert command.main([f"--checkpoint={workdir}", f"--out={out}"]) == 0
    found = transformers.AutoTokenizer.from_pretrained(out)
    assert found.encode("a<think>é") == ByteTokenizer(("<think>",)).encode("a<think>é")
    chat = [{"role": "user", "content": "hi"}]
    assert found.apply_chat_template(chat, tokenize=False) == "user: hi|"


def test_an_export_that_is_cut_off_leaves_nothing_and_is_done_again(
    make_run, command, tmp_path, monkeypatch
):
    """The folder appears with all that belongs in it, the chat template too."""
    workdir, _, _ = make_run(**FAMILY_OPTIONS)
    path, out = workdir / "config.json", tmp_path / "out"
    config = json.loads(path.read_text())
    config["tokenizer"] |= {"chat_turn": "{role}: {content}|"}
    path.write_text(json.dumps(config))

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "write_chat_template", interrupted)
        assert command.main([f"--checkpoint={workdir}", f"--out={out}"]) == 130
    assert not out.exists()
    assert command.main([f"--checkpoint={workdir}", f"--out={out}"]) == 0
    assert (out / "chat_template.jinja").exists() and (out / "config.json").exists()


def test_adapters_are_merged(make_run, command, one_device, tmp_path):
    lora = dict(rank=2, modules=("query", "down"))
    workdir, network, params = make_run(**FAMILY_OPTIONS, lora=lora)
    out, step = tmp_path / "out", workdir / "checkpoints/s/3"
    assert command.main([f"--checkpoint={step}", f"--out={out}", "--dtype=bfloat16"]) == 0
    on_device = jax.device_put(params, network.shardings(one_device))
    bare, merged = merge_adapters(network, on_device)
    found = load_params(out, Network.create(read_config(out)), one_device)
    for name in ("query", "key"):
        kernel = found["blocks"]["attention"][name]["kernel"]
        expected = np.asarray(merged["blocks"]["attention"][name]["kernel"].astype("bfloat16"))
        np.testing.assert_array_equal(kernel, expected.astype(np.float32))
    changed = np.asarray(found["blocks"]["attention"]["query"]["kernel"])
    assert np.abs(changed - params["blocks"]["attention"]["query"]["kernel"]).max() > 1e-3


def test_adapters_alone_are_those_that_peft_reads(make_run, command, one_device, tmp_path):
    lora = dict(rank=2, alpha=6.0, modules=("query", "down"))
    workdir, network, params = make_run(**FAMILY_OPTIONS, lora=lora)
    out = tmp_path / "out"
    assert (
        command.main([f"--checkpoint={workdir}/checkpoints/s", f"--out={out}", "--adapters"]) == 0
    )
    assert sorted(path.name for path in out.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert read_adapter_config(out) == network.config.lora
    bare = jax.device_put(params, network.shardings(one_device))
    found = load_adapters(out, network, jax.tree.map(lambda x: 0 * x, bare), one_device)
    for name, kind in (("query", "attention"), ("down", "mlp")):
        for leaf in ("lora_a", "lora_b"):
            ours = params["blocks"][kind][name][leaf]
            np.testing.assert_array_equal(found["blocks"][kind][name][leaf], ours)


def reward_rows() -> dict[str, np.ndarray]:
    """Three completions of other lengths; two end with eos, one was cut off."""
    prompts, prompt_mask = np.zeros((3, 4), np.int32), np.zeros((3, 4), bool)
    tokens, mask = np.zeros((3, 5), np.int32), np.zeros((3, 5), bool)
    for row, (prompt, completion) in enumerate(((2, 3), (4, 5), (1, 2))):
        random = np.random.default_rng(row)
        prompts[row, 4 - prompt :], prompt_mask[row, 4 - prompt :] = random.integers(97, 122), True
        tokens[row, :completion] = random.integers(97, 122, completion)
        mask[row, :completion] = True
        if row != 1:
            tokens[row, completion - 1] = ByteTokenizer().eos_id
    return completion_rows(prompts, prompt_mask, tokens, mask)


def test_transformers_gives_a_reward_models_scores_in_any_batch(make_run, command, tmp_path):
    """Alone, in a batch, and padded on either side; `pad_token_id` is written."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    workdir, network, params = make_run(**FAMILY_OPTIONS, head="reward")
    out, rows = tmp_path / "out", reward_rows()
    expected = np.asarray(completion_scores(network, params, rows)[0])
    assert np.ptp(expected) > 1e-2
    assert command.main([f"--checkpoint={workdir}", f"--out={out}"]) == 0
    model = transformers.AutoModelForSequenceClassification.from_pretrained(out).eval()
    assert type(model).__name__ == "Qwen3ForSequenceClassification"
    assert (model.config.num_labels, model.config.pad_token_id) == (1, 256)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert tokenizer.pad_token_id == 256
    ids = [
        rows["tokens"][row][rows["segment_ids"][row] > 0].tolist()
        for row in range(len(rows["tokens"]))
    ]
    for side in ("left", "right"):
        tokenizer.padding_side = side
        batches = (tokenizer.pad({"input_ids": ids}, return_tensors="pt"),)
        batches += tuple(tokenizer.pad({"input_ids": [each]}, return_tensors="pt") for each in ids)
        with torch.no_grad():
            scores = [model(**batch).logits[:, 0].numpy() for batch in batches]
        np.testing.assert_allclose(scores[0], expected, atol=1e-4)
        np.testing.assert_allclose(np.concatenate(scores[1:]), expected, atol=1e-4)


class Ends:
    """A text format whose tokenizer pads with an end; "<a>" is another id, "<b>" two."""

    class tokenizer:
        pad_id = 2

        @staticmethod
        def encode(text):
            return {"<a>": [7], "<b>": [7, 8], "<end>": [3]}[text]

    ends = (2, 3)


def test_how_a_reward_model_is_read_goes_along(make_run, command, tmp_path):
    workdir, _, _ = make_run(**FAMILY_OPTIONS, head="reward", separator="##")
    assert command.main([f"--checkpoint={workdir}", f"--out={tmp_path / 'out'}"]) == 0
    written = json.loads((tmp_path / "out/config.json").read_text())
    assert written[SCORED_AS] == {"step_separator": "##"}
    assert recorded_form(str(tmp_path / "out")) == recorded_form(str(workdir))
    assert read_config(tmp_path / "out").head == "reward"


def test_a_padding_token_that_ends_completions_is_refused(tmp_path):
    assert pad_that_ends_nothing(Ends, "<a>", "--pad-token") == 7
    for token, message in (
        ("", "one that ends completions (its id is 2)"),
        ("<b>", "'<b>' is [7, 8]"),
        ("<end>", "ends no completion, and not one of [2, 3]"),
    ):
        with pytest.raises(ValueError) as caught:
            pad_that_ends_nothing(Ends, token, "--pad-token")
        assert message in str(caught.value) and "(--pad-token)" in str(caught.value)
    (tmp_path / "in").mkdir(), (tmp_path / "out").mkdir()
    (tmp_path / "in/tokenizer_config.json").write_text('{"eos_token": "<end>", "pad_token": null}')
    with_pad_token(tmp_path / "in", "<a>", tmp_path / "out")
    written = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
    assert written == {"eos_token": "<end>", "pad_token": "<a>"}


def test_a_padding_token_belongs_to_reward_models_without_one(make_run, command, tmp_path, capsys):
    workdir, _, _ = make_run(**FAMILY_OPTIONS)
    words = [f"--checkpoint={workdir}", f"--out={tmp_path}/a", "--pad-token=<a>"]
    assert command.main(words) == 1
    assert "only reward models" in capsys.readouterr().err


def test_what_is_wrong_is_one_line(make_run, command, tmp_path, capsys):
    workdir, _, _ = make_run(**FAMILY_OPTIONS, attention_softcap=5.0)
    for arguments, message in (
        (["--checkpoint=nowhere", f"--out={tmp_path}/a"], "No checkpoint in"),
        ([f"--checkpoint={workdir}/checkpoints/s", f"--out={workdir}"], "not an empty folder"),
        (
            [f"--checkpoint={workdir}/checkpoints/s", f"--out={tmp_path}/a"],
            "No published family has the options of this model; the nearest is qwen3, but "
            "attention_softcap=5.0 is 0.0 in qwen3",
        ),
        (
            [f"--checkpoint={workdir}/checkpoints/s", f"--out={tmp_path}/a", "--adapters"],
            "no adapters to save (config.model.lora.rank)",
        ),
        (
            [f"--checkpoint={workdir}/checkpoints/s", "--out=a", "--adapters", "--dtype=bfloat16"],
            "of whole models: leave them out (--adapters)",
        ),
    ):
        assert command.main(arguments) == 1
        text = capsys.readouterr().err
        assert text.startswith("error: ") and message in text and text.count("\n") == 1
    (workdir / "config.json").unlink()
    assert command.main([f"--checkpoint={workdir}/checkpoints/s", f"--out={tmp_path}/a"]) == 1
    assert "the checkpoint must lie in the folder of a run" in capsys.readouterr().err
