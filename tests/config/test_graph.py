"""Where stages and their models start: what is refused before a device is touched."""

import dataclasses
import json

import pytest

from rljax.config.graph import MODEL, resolve_networks, start_of
from rljax.config.load import complete
from rljax.config.validate import plain, resolved_dict, validate
from rljax.models.config import ModelConfig
from rljax.models.pretrained.checks import SCORED_AS

SHAPE = ModelConfig(vocab_size=16, layers=1, width=8, heads=2, kv_heads=1, head_dim=4, mlp_width=16)


def config_of(**changes):
    """SFT -> RM -> PPO; a change is "stage.field" -> value, or a whole section."""
    pairs = dict(path="pairs.jsonl")
    values = dict(
        stages=("sft", "rm", "ppo"),
        sft=dict(method="sft", data=dict(source="jsonl", path="demonstrations.jsonl")),
        rm=dict(method="bradley_terry", network=dict(head="reward"), data=pairs),
        ppo=dict(
            method="ppo",
            start_from="sft",
            models=dict(reward=dict(start_from="rm"), value=dict(start_from="rm")),
        ),
    )
    for name, value in changes.items():
        stage, _, field = name.partition("__")
        values[stage] = {**values[stage], field: value} if field else value
    return complete(values)


def test_the_chain_is_resolved():
    config = config_of()
    sft, rm, ppo = stages = validate(config)
    assert [start_of(stages, index) for index in range(3)] == [MODEL, "sft", "sft"]
    assert (sft.models, rm.models) == ({}, {})
    assert ppo.models == {
        "reward": {
            "weight": 1.0,
            "text_weight": 0.0,
            "normalise": "none",
            "reference_path": "",
            "clip": 0.0,
            "length_penalty": 0.0,
            "members": (),
            "ensemble": "mean",
            "ensemble_weight": 1.0,
            "step_score": "",
            "step_separator": "\n",
            "question": "",
            "judge": "",
            "rubric": "",
            "lowest": 0,
            "highest": 9,
            "verdicts": (" Yes", " No"),
            "start_from": "rm",
        },
        "value": {"start_from": "rm"},
    }
    assert [stage.network for stage in resolve_networks(SHAPE, stages)] == [
        {},
        {"head": "reward", "head_outputs": 1, "head_bias": False},
        {},
    ]
    saved = resolved_dict(config, resolve_networks(SHAPE, stages))
    assert saved["rm"]["network"]["head"] == "reward" and saved["ppo"]["start_from"] == "sft"
    # A stage that says nothing saves nothing: workdirs of a line of stages stay what they were.
    assert not {"start_from", "network", "models"} & set(saved["sft"])


def test_a_later_stage_may_start_from_the_model():
    stages = validate(config_of(rm__start_from="model"))
    assert start_of(stages, 1) == MODEL


@pytest.mark.parametrize(
    "changes, messages",
    [
        (dict(ppo__start_from="stf"), ["Unknown stage 'stf'", "'sft'?", "config.ppo.start_from"]),
        (dict(sft__start_from="ppo"), ["'ppo' is a later stage", "config.sft.start_from"]),
        (dict(rm__start_from="rm"), ["'rm' is the stage itself", "config.rm.start_from"]),
        (
            dict(ppo__models=dict(reward=dict(start_from="ppo"))),
            ["'ppo' is the stage itself", "config.ppo.models.reward.start_from"],
        ),
        (
            dict(ppo__models=dict(reward=dict(start_from="nowhere/sft"))),
            ["neither an earlier stage ('model', 'sft', 'rm') nor a folder", "models.reward"],
        ),
        (
            dict(ppo__models=dict(reward=dict(weight=2.0))),
            ["config.ppo.models.reward.weight=2.0 is never read", "models.reward.start_from"],
        ),
        (
            dict(ppo__models=dict(teacher=dict(start_from="sft"))),
            ["models.teacher.start_from='sft' is never read by method 'ppo'", "samples from one"],
        ),
        (
            dict(ppo__models=dict(judge=dict(start_from="rm"))),
            ["models.judge.start_from='rm' is never read by method 'ppo'"],
        ),
        (
            dict(ppo__method="luffy", ppo__models=dict(reward=dict(start_from="rm"))),
            ["models.reward", "never read by method 'luffy'", "and these alone"],
        ),
        (
            dict(rm__models=dict(reward=dict(start_from="sft"))),
            ["never read by method 'bradley_terry'", "does not score whole samples"],
        ),
        (
            dict(rm__models=dict(reference=dict(start_from="sft"))),
            ["never read by method 'bradley_terry'", "config.rm.models.reference.start_from"],
        ),
        (
            dict(ppo__critic=dict(trunk="shared")),
            ["models.value.start_from='rm' is never read", "critic with a trunk of its own"],
        ),
        (
            dict(ppo__models=dict(reward=dict(start_from="rm", normalise="reference"))),
            ["normalise='reference' needs a file of completions", "models.reward.reference_path"],
        ),
        (
            dict(ppo__models=dict(reward=dict(start_from="rm", reference_path="x.jsonl"))),
            ["normalise='none' never reads one, got reference_path='x.jsonl'"],
        ),
        (
            dict(
                ppo__method="remax",
                ppo__models=dict(reward=dict(start_from="rm", normalise="whiten")),
            ),
            ["'remax' scores the greedy completions of its baseline apart", "reward.normalise"],
        ),
        (
            dict(
                ppo__method="dapo",
                ppo__models=dict(reward=dict(start_from="rm", normalise="whiten")),
            ),
            ["scores the rounds of group_filter=", "config.ppo.models.reward.normalise"],
        ),
        (
            dict(ppo__models=dict(reward=dict(start_from="rm", normalise="rank"))),
            ["config.ppo.models.reward.normalise"],
        ),
        (dict(rm__network=dict(head="rewards")), ["Unknown head 'rewards'", "config.rm.network"]),
        (dict(rm__data=dict(source="sampled_pairs")), ["cannot read source='sampled_pairs'"]),
    ],
)
def test_refused(changes, messages):
    with pytest.raises(ValueError) as caught:
        validate(config_of(**changes))
    for message in messages:
        assert message in str(caught.value)


PROCESS = dict(
    method="process_reward",
    network=dict(head="reward"),
    data=dict(path="steps.jsonl", step_separator="\n\n"),
)
ASKED = dict(method="generative_reward", data=dict(path="labels.jsonl", question="Good?"))


@pytest.mark.parametrize(
    "rm, name", [(PROCESS, "step_separator"), (ASKED, "question")], ids=["process", "generative"]
)
def test_a_reward_model_that_nobody_could_read_is_refused(rm, name):
    rm = dict(rm, start_from="sft", data={**rm["data"], name: ""})
    with pytest.raises(ValueError, match=f"{name}='' .*nothing \\(config.rm.data.{name}"):
        validate(config_of(rm=rm))


@pytest.mark.parametrize(
    "rm, fields, message",
    [
        (
            PROCESS,
            {},
            r"'rm' learns scores of steps, .*config.ppo.models.reward.step_score, config.rm",
        ),
        (
            PROCESS,
            dict(step_score="min"),
            r"step_separator='\\n' is not what 'rm' was trained with",
        ),
        (ASKED, dict(question="Right?"), r"question='Right\?' is not .*'Good\?' \(config.ppo"),
        (
            ASKED,
            dict(question="Good?", verdicts=("y", "n")),
            r"verdicts=\('y', 'n'\) is not .*config.rm.data.verdicts",
        ),
        (
            dict(method="bradley_terry", network=dict(head="reward"), data=dict(path="p.jsonl")),
            dict(step_score="min"),
            "step_score='min' reads a score at the end of each step, and 'rm' learns none there",
        ),
        (PROCESS, dict(step_score="min", step_separator="\n\n"), None),
        (ASKED, dict(question="Good?"), None),
    ],
)
@pytest.mark.parametrize("role", ["start_from", "members"])
def test_a_reward_model_is_read_as_it_was_trained(rm, fields, message, role):
    """So is one of a folder or of another run: `recorded_form` reads what `scored_as` wrote."""
    first = (
        dict(start_from="model", members=("rm",)) if role == "members" else dict(start_from="rm")
    )
    changes = dict(rm=dict(rm, start_from="sft"), ppo__models=dict(reward=fields | first))
    if message is None:
        assert validate(config_of(**changes))
        return
    with pytest.raises(ValueError, match=message):
        validate(config_of(**changes))


def test_a_reward_model_of_a_folder_or_another_run_is_read_as_it_was_trained(tmp_path):
    folder, step = tmp_path / "folder", tmp_path / "run/checkpoints/rm/4"
    (step / "state").mkdir(parents=True)
    folder.mkdir()
    resolved = resolved_dict(config_of(rm=dict(PROCESS, start_from="sft")), validate(config_of()))
    resolved["rm"] = {"data": {"path": "", "step_separator": "\n\n"}}
    (tmp_path / "run/config.json").write_text(json.dumps(plain(resolved)))

    def read(start, **fields):
        reward = {"start_from": str(start), **fields}
        return validate(config_of(ppo__models=dict(reward=reward)))

    def write(**form):
        keys = {"model_type": "llama", SCORED_AS: form} if form else {"model_type": "llama"}
        (folder / "config.json").write_text(json.dumps(keys))

    write(step_separator="\n\n")
    for start in (folder, step):
        with pytest.raises(ValueError, match="learns scores of steps, .*reward.step_score"):
            read(start)
        with pytest.raises(ValueError, match="step_separator='.n' is not what .*config.json"):
            read(start, step_score="min")
        assert read(start, step_score="min", step_separator="\n\n")
    write(question="Good?", verdicts=["y", "n"])
    with pytest.raises(ValueError, match=r"verdicts=\(' Yes', ' No'\) is not what .*rljax_scored"):
        read(folder, question="Good?")
    assert read(folder, question="Good?", verdicts=("y", "n"))
    for wrong in ({"separator": "x"}, {"question": 3}, {"verdicts": "yn"}, {"verdicts": ["y"]}):
        write(**wrong)
        with pytest.raises(ValueError, match=f"config.json: {SCORED_AS}"):
            read(folder, question="Good?")
    write()  # a folder that does not say is read as the config says
    assert read(folder, question="Good?") and read(folder, step_score="min")
    resolved["rm"] = {"data": {"path": ""}}  # and a run says that there were no steps
    (tmp_path / "run/config.json").write_text(json.dumps(plain(resolved)))
    with pytest.raises(ValueError, match="'min' reads .* learns none there.*config.json of its"):
        read(step, step_score="min")


@pytest.mark.parametrize(
    "changes, shape, messages",
    [
        (
            dict(rm__network={}),
            {},
            ["Stage 'rm'", "trains a network with the head 'reward'", "config.rm.network.head"],
        ),
        (
            dict(ppo__start_from=""),
            {},
            ["Stage 'ppo'", "head 'language_model', and this one has 'reward'", "from 'rm'"],
        ),
        (
            dict(ppo__start_from="rm", ppo__network=dict(head="language_model")),
            dict(tied_embeddings=False),
            ["Stage 'ppo' starts from 'rm'", "no output matrix", "config.ppo.network.head"],
        ),
    ],
)
def test_networks_that_no_family_trains(changes, shape, messages):
    stages = validate(config_of(**changes))
    with pytest.raises(ValueError) as caught:
        resolve_networks(dataclasses.replace(SHAPE, **shape), stages)
    for message in messages:
        assert message in str(caught.value)


def test_a_score_is_one_number():
    """A published classifier often has two outputs, of which a reward stage would train one."""
    rm = dict(method="bradley_terry", data=dict(path="pairs.jsonl"))
    stages = validate(complete(dict(stages=("rm",), rm=rm)))
    assert resolve_networks(dataclasses.replace(SHAPE, head="reward"), stages)
    message = "Stage 'rm' learns one score, and the model's reward head has 2 outputs"
    with pytest.raises(ValueError, match=message):
        resolve_networks(dataclasses.replace(SHAPE, head="reward", head_outputs=2), stages)
