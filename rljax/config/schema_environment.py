"""The fields of config.environment."""

from rljax.config.fields import MOST_ROWS, MOST_TOKENS, Field, Section

ENVIRONMENT: Section = {
    "name": Field(
        "",
        "what answers the model's replies, turn by turn (rljax/environments/): one of its table, "
        "or 'path/to/file.py' with reset() and step(); '': a completion is one reply",
    ),
    "agent": Field(
        "",
        "a program of yours that plays the episodes, instead of an environment: 'path/to/file.py' "
        "with play(record, endpoint), or 'path/to/file.py:NAME'; it asks the run's own server as "
        "any client of OpenAI's does (rljax/environments/README.md)",
    ),
    "agent_processes": Field(
        8, "episodes that agents play at a time, each in a process", minimum=1, maximum=4096
    ),
    "agent_seconds": Field(
        600.0, "per episode of an agent; one that takes longer has failed", above=0, maximum=864_000
    ),
    "options": Field(
        {}, "keyword arguments of what makes the environment, or of an agent's play()"
    ),
    "turns": Field(8, "replies of an episode at most", minimum=1, maximum=10_000),
    "turn_tokens": Field(
        0,
        "tokens of a reply at most; 0: as many as the episode has left of max_new_tokens, in which "
        "the environment's answers count too",
        minimum=0,
        maximum=MOST_TOKENS,
    ),
    "rows_per_call": Field(
        0,
        "episodes that the sampler goes on with at a time; the environment answers them while the "
        "next ones are sampled; 0: all at once",
        minimum=0,
        maximum=MOST_ROWS,
    ),
    "turn_credit": Field(
        False,
        "rewards of turns count where they were earned, for parts that read rewards of tokens "
        "(gae, rewards_to_go, ...); else all of them count at the end",
    ),
    "trained_roles": Field(
        {},
        "of an environment of several players: the roles that a stage trains, by the name of the "
        "stage, {'first': ('feedback',)}; a stage that is not named trains all",
    ),
    "episode_roles": Field(
        (),
        "roles whose samples are compared with those of the same role in their own episode; those "
        "of other roles with all of their problem",
        items=Field("", "a role"),
    ),
    "timeout_seconds": Field(5.0, "per step of the environment", above=0, maximum=86_400),
    "rewritten_turns": Field(
        "refuse",
        "a chat template that writes earlier turns in another way once later ones follow (leaves "
        "out thoughts, say): refused; or the model reads on what it read and wrote",
        choices=("refuse", "keep"),
    ),
}
