"""Episodes of several players: each reads its own conversation, and learns from its own tokens."""

import jax
import numpy as np
import pytest

from rljax.config.validate import validate
from rljax.parallel.rules import put_rows
from rljax.training.collect.episode_roles import EpisodeRoles
from rljax.training.collect.grouped import step_group, step_rows
from rljax.training.collect.rewards import make_reward
from rljax.training.collect.sampled import Drawn
from rljax.training.evaluation import Evaluator
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.run.roles import with_roles
from rljax.training.update.logprobs import model_rows

# Two players who guess; who writes letters with an odd sum is right, and tells the other how often.
# The second player reads what the first one said before its own first turn.
FILE = """
from rljax.environments.players import Move, Opening

roles = ("first", "second")

def record(seed):
    return {"seed": seed}

def reset(record):
    texts = [f"you {role} {record['seed']}" for role in roles]
    return Opening(texts, {"said": 0})

def step(state, reply):
    player = state["said"] % 2
    state["said"] += 1
    right = float(sum(map(ord, reply)) % 2)
    done = state["said"] == 4
    told = {1 - player: f"said {len(reply)}", player: "ok"}
    return Move(None if done else 1 - player, told, {player: right}, {"right": right})
"""
ROOM, REPLY = 72, 4
SAMPLES, PLAYERS = 4, 2


@pytest.fixture
def overrides(tmp_path):
    path = tmp_path / "game.py"
    path.write_text(FILE)
    return (
        f"--config.environment.name={path}",
        f"--config.environment.turn_tokens={REPLY}",
        "--config.environment.turn_credit=True",
        "--config.tokenizer.chat_turn={role}: {content}\n",
        "--config.tokenizer.chat_generation_prompt=assistant: ",
        "--config.data.kind=environment",
        "--config.data.path=",
        "--config.data.heldout_path=",
        "--config.data.train_size=8",
        "--config.data.max_prompt_tokens=48",
        "--config.scoring.rewards=({'name': 'environment'},)",
        "--config.grpo.method=spiral",
        f"--config.grpo.sampling.max_new_tokens={ROOM}",
        "--config.evaluation.max_new_tokens=72",
        "--config.evaluation.samples_per_prompt=0",
        "--config.grpo.sampling.logit_bias=((258, 5.0),)",
    )


@pytest.fixture
def made(pieces, overrides):
    """The pieces, their stage as the run has it, and its family."""
    built = pieces("grpo", *overrides)
    stage = built.context.stages[-1]
    return built, stage, PolicyGradient(built.context, stage, built.params, 0)


def played(built, family):
    """The samples of two problems."""
    rollouts = family.source.rollouts
    records = [{**built.context.train_problems[n], "id": n} for n in range(2)]
    weights = rollouts.sampler.load(built.params)
    return rollouts.sampler.play(weights, records, key=rollouts.key, step=1, version=7)


def check_rows(samples, tokenizer, games):
    """Every player has a row of what it read and wrote, behind a prompt of its own."""
    mask, inserted, rows = samples.flat("mask"), samples.flat("inserted"), 2 * games * PLAYERS
    assert samples.prompts.shape[0] == len(samples.episodes) == rows
    assert [each["role"] for each in samples.episodes] == ["first", "second"] * (rows // 2)
    assert [record["id"] for record in samples.records] == [0] * (rows // 2) + [1] * (rows // 2)
    for row, episode in enumerate(samples.episodes):
        assert episode["end"] == "done" and len(episode["turns"]) == 2
        seed = samples.records[row]["seed"]
        other = samples.episodes[row ^ 1]["turns"]
        own = [turn["reply"] for turn in episode["turns"]]
        if episode["role"] == "first":
            prompt = f"user: you first {seed}\nassistant: "
            told = f"\nuser: ok\nsaid {len(other[0]['reply'])}\nassistant: "
        else:
            prompt = f"user: you second {seed}\nsaid {len(other[0]['reply'])}\nassistant: "
            told = f"\nuser: ok\nsaid {len(other[1]['reply'])}\nassistant: "
        text = tokenizer.decode(samples.prompts[row][samples.prompt_mask[row]])
        assert text == prompt == samples.prompt_texts[row]
        present = mask[row] | inserted[row]
        assert present[: present.sum()].all() and not (mask[row] & inserted[row]).any()
        assert tokenizer.decode(samples.flat("tokens")[row][present]) == told.join(own)
        sampled = sum(turn["end"] - turn["begin"] for turn in episode["turns"])
        assert sampled == mask[row].sum()
        rewards = [turn["reward"] for turn in episode["turns"]]
        assert rewards == [float(sum(map(ord, reply)) % 2) for reply in own]
        # What the environment measures is said once, by the row of the first player.
        assert episode["measures"] == ({"right": other[1]["reward"]} if row % 2 == 0 else {})


def test_every_player_reads_its_own_conversation_and_the_trainer_the_same(made):
    built, stage, family = made
    samples = played(built, family)
    check_rows(samples, built.context.tokenizer, stage.batch.samples_per_prompt // PLAYERS)
    group = step_group(samples, make_reward(built.context, stage).score(samples))
    placed = put_rows(model_rows(step_rows(samples, group, stage)), built.context.mesh)
    found = np.asarray(family.learner.logprobs(built.params, placed)).reshape(group.mask.shape)
    np.testing.assert_allclose(found[group.mask], group.logprobs[group.mask], atol=2e-5)


def check_baselines(experience, batches, state):
    """Of self-play, in the order of games; the state is what the step leaves behind."""
    scores, arrays = experience.scores.total, experience.arrays
    np.testing.assert_array_equal(arrays["roles"], np.arange(len(scores)) % 2)
    mask, expected, baseline = experience.samples.flat("mask"), [], [0.0, 0.0]
    for role, score in zip(arrays["roles"], scores, strict=True):
        expected.append(score - baseline[role])
        baseline[role] += 0.05 * (score - baseline[role])
    first = mask.argmax(axis=1)
    found = batches.detail.rows["advantages"][np.arange(len(mask)), first]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(state.carried["role_baselines"], baseline, atol=1e-6)
    assert min(baseline) > 0
    for role, name in enumerate(("first", "second")):
        mean = scores[arrays["roles"] == role].mean()
        assert batches.metrics[f"role_reward/{name}"] == pytest.approx(mean)
    assert 0 < batches.metrics["episode/right"] < 1


def check_turn_rewards(experience):
    """Each turn's own reward stands on its last token."""
    found = experience.arrays["turn_rewards"]
    expected = np.zeros_like(found)
    for row, episode in enumerate(experience.samples.episodes):
        for turn in episode["turns"]:
            expected[row, turn["end"] - 1] = turn["reward"]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found.sum(axis=1), experience.scores.total)
    assert ((found != 0).sum(axis=1) == 2).any()  # of two turns both were right


def check_groups(context, stage, drawn):
    """Groups are of a role and a problem, or of a role and an episode."""
    rows = np.arange(len(drawn.samples.episodes))
    for roles, key in (
        ((), rows // SAMPLES * 2 + rows % 2),
        (("first", "second"), rows),
        (("second",), np.where(rows % 2, 100 + rows, rows // SAMPLES)),
    ):
        context.config.environment.episode_roles = roles
        found = EpisodeRoles(context, stage)(drawn).arrays["group_ids"]
        same = found[:, None] == found[None]
        np.testing.assert_array_equal(same, key[:, None] == key[None])
    context.config.environment.episode_roles = ()


def check_frozen(built, stage, family, experience, drawn):
    """A role that is not trained has no gradient and moves no baseline.

    The masks of the two roles are disjoint and cover all that was sampled and has an advantage.
    """
    sampled, masks = experience.samples.flat("mask"), {}
    for role, name in enumerate(("first", "second")):
        built.context.config.environment.trained_roles = {stage.name: (name,)}
        arrays = EpisodeRoles(built.context, stage)(drawn).arrays
        given = experience._replace(arrays=experience.arrays | arrays)
        state, batches = family.batches(built.state, given, 1)
        rows = batches.detail.rows
        own = rows["roles"] == role
        masks[name] = rows["mask"]
        assert rows["mask"][own].any() and not rows["mask"][~own].any()
        moved = np.asarray(state.carried["role_weights"]) > 0
        np.testing.assert_array_equal(moved, np.arange(2) == role)
        kept = own & (rows["advantages"] != 0).any(axis=1)
        np.testing.assert_array_equal(rows["mask"][kept], sampled[kept])
    assert not (masks["first"] & masks["second"]).any()

    @jax.jit
    def gradient(params, part):
        prepared = family.prepare(params, part) | part
        return jax.grad(lambda x: family.loss_fn(x, prepared)[0])(params)

    batch = batches.batches[0]
    changed = np.where(batch["mask"], batch["advantages"], 55.0)
    found = [
        jax.tree.leaves(
            gradient(built.params, put_rows({**batch, "advantages": x}, built.context.mesh))
        )
        for x in (batch["advantages"], changed)
    ]
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
    assert max(float(np.abs(x).max()) for x in found[0]) > 0


def test_a_step_of_self_play(made):
    """Baselines, groups, and what becomes of a role that is not trained."""
    built, stage, family = made
    assert stage.objective.values["role_count"] == 2 and not stage.batch.share_prompts
    policy = family.policy(built.state, 1)
    experience, _ = family.source.collect(policy, family.source.first_state(), 1)
    state, batches = family.batches(built.state, experience, 1)
    check_baselines(experience, batches, state)
    check_turn_rewards(experience)
    drawn = Drawn(policy, None, experience.samples, experience.scores, 1)
    check_groups(built.context, stage, drawn)
    check_frozen(built, stage, family, experience, drawn)


def test_held_out_episodes_are_measured(made):
    built, _, _ = made
    found = Evaluator(built.context)(built.params)
    assert 0 <= found["episode/right"] <= 1 and 0 <= found["accuracy_greedy"] <= 1


def test_who_has_no_room_says_nothing(made):
    """The episode goes on, and its row keeps what was read before."""
    built, _, family = made
    family.source.rollouts.sampler.room = 8
    samples = played(built, family)
    for episode in samples.episodes:
        first, last = episode["turns"]
        assert first["reply"] and last == {
            "reply": "", "reward": 0.0, "begin": first["end"], "end": first["end"],
        }  # fmt: skip
        assert episode["end"] == "done"
        contents = [message["content"] for message in episode["messages"]]
        assert contents[1] == first["reply"] and contents[-1] == ""
    assert not samples.flat("inserted").any()


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (
            (
                "--config.grpo.batch.samples_per_prompt=3",
                "--config.grpo.batch.prompts_per_step=16",
            ),
            "samples_per_prompt=3 must be a multiple of 2",
        ),
        (("--config.evaluation.samples_per_prompt=2",), "counts right samples of a prompt"),
        (("--config.grpo.batch.share_prompts=True",), "each has a prompt of its own"),
        (("--config.environment.trained_roles={'grp': ('first',)}",), "names the stage 'grp'"),
        (("--config.environment.trained_roles={'grpo': ('third',)}",), "'third' is no role"),
        (("--config.environment.trained_roles={'grpo': ()}",), "must be names of roles"),
        (("--config.environment.episode_roles=('x',)",), "'x' is no role"),
        (("--config.grpo.objective.role_count=3",), "the environment has 2 roles"),
        (("--config.grpo.objective.group_filter=mixed",), "group_filter='mixed' does not go"),
        (
            ("--config.grpo.method=remax", "--config.grpo.batch.sequences_per_update=32"),
            "compares samples of one prompt",
        ),
        (
            (
                "--config.grpo.method=hierarchical_grpo",
                "--config.grpo.batch.samples_per_prompt=2",
                "--config.grpo.batch.prompts_per_step=16",
            ),
            "samples_per_prompt=2 is one episode",
        ),
        (
            ("--config.grpo.method=waltzrl", "--config.environment.turn_credit=False"),
            "compares turns by their own rewards",
        ),
        (
            (
                "--config.warmup.data.source=sampled",
                "--config.warmup.data.path=",
                "--config.warmup.data.sampled_prompts=8",
            ),
            "each of 2 players has its own",
        ),
        (("--config.environment.name=guess",), "reads the roles of several players"),
    ],
)
def test_what_does_not_go_with_players_is_refused(tiny_config, overrides, more, match):
    config = tiny_config("grpo", *overrides, *more)
    with pytest.raises(ValueError, match=match):
        with_roles(config, validate(config))


def test_stages_without_players_are_left_alone(tiny_config):
    config = tiny_config("grpo")
    stages = validate(config)
    assert with_roles(config, stages) == tuple(stages)
