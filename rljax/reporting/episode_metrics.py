"""The metrics of episodes."""

from rljax.reporting.metric import Metric

OF_EPISODES: dict[str, Metric] = {
    "episode_turns": Metric("Turns", "Replies of an episode, or of each of its players."),
    "inserted_tokens": Metric(
        "Inserted tokens", "Of an episode: what the environment answered; read, and not learned."
    ),
    "episodes_done": Metric("Over", "Share of episodes that the environment ended."),
    "episodes_turns": Metric("Out of turns", "Share that had as many turns as are allowed."),
    "episodes_cut": Metric("Cut off", "Share whose last reply ran into the token budget."),
    "episodes_room": Metric("Out of room", "Share whose last answer did not fit any more."),
    "episodes_failed": Metric("Environment failed", "Share of episodes that ended with an error."),
}
