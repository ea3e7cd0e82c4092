"""How old samples may get where sampling and training overlap: rules, without any machinery.

A version is the number of optimizer steps that parameters have seen. The lag of a sample is the
version that trains on it minus the version that sampled it, or its oldest token. Two rules bound
it: admission lets no more be sampled than can be trained in time (AReaL, arXiv:2505.24298), and an
age limit drops what got old anyway (prime-rl). Groups are dropped whole, as their statistics are of
all their samples.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Flow(NamedTuple):
    """Counts of samples (or of whole groups, if these are what is admitted)."""

    version: int = 0  # optimizer steps done
    accepted: int = 0  # finished and taken for training, from the start of the run on
    running: int = 0  # admitted, not finished

    def admitted(self, count: int) -> "Flow":
        """After `count` were sent to the sampler."""
        return self._replace(running=self.running + count)

    def finished(self, accepted: int, rejected: int = 0) -> "Flow":
        """After some came back. What is rejected (a group without signal, say) makes room."""
        return self._replace(
            running=self.running - accepted - rejected, accepted=self.accepted + accepted
        )

    def trained(self) -> "Flow":
        """After one more update."""
        return self._replace(version=self.version + 1)


def capacity(flow: Flow, *, batch: int, max_lag: int, max_running: int) -> int:
    """How many more samples may be admitted now; may be negative.

        min(max(1, max_running) - running, (max_lag + version + 1) * batch - accepted - running)

    Of samples that are trained in the order of their admission none is then older than `max_lag`
    updates. Zero is synchronous, one overlaps one step.

    Args:
        flow: the counts.
        batch: samples per update.
        max_lag: eta.
        max_running: what the sampler can hold at once.

    Raises:
        ValueError: if `batch` is not positive or `max_lag` negative.
    """
    _check(batch, max_lag)
    room = max(1, max_running) - flow.running
    return min(room, (max_lag + flow.version + 1) * batch - flow.accepted - flow.running)


def may_submit(submitted: int, version: int, *, batch: int, max_lag: int) -> bool:
    """Whether one more may follow the `submitted` ones: floor(submitted / batch) <= version + lag.

    The same rule as in the paper, where the new sample is counted: floor((N - 1) / B) <= v + eta.

    Raises:
        ValueError: if `batch` is not positive or `max_lag` negative.
    """
    _check(batch, max_lag)
    return submitted // batch <= version + max_lag


def pending_limit(*, batch: int, max_lag: int) -> int:
    """Length of the queue of prompts that wait for admission: (max_lag + 1) * batch."""
    _check(batch, max_lag)
    return (max_lag + 1) * batch


def resumed(version: int, *, batch: int) -> Flow:
    """The counts of a run that continues at a version with an empty queue.

    With `accepted` at 0 the rule would admit version * batch samples at once, all of one version.
    """
    _check(batch, 0)
    return Flow(version=version, accepted=version * batch)


def fresh(
    oldest_versions: Sequence[int],
    group_ids: Sequence[Hashable],
    *,
    version: int,
    max_lag: int,
) -> list[bool]:
    """Which samples are young enough, whole groups only (prime-rl: max_lag 8, queueing included).

    Args:
        oldest_versions: version of the oldest token of each sample.
        group_ids: of each sample.
        version: that is about to train.
        max_lag: highest version - oldest_version that is kept.

    Returns:
        One bool for each sample: no sample of its group is too old.

    Raises:
        ValueError: if the lists differ in length, or a sample is from the future.
    """
    if len(oldest_versions) != len(group_ids):
        raise ValueError(f"{len(oldest_versions)} versions but {len(group_ids)} group_ids.")
    if any(oldest > version for oldest in oldest_versions):
        raise ValueError(f"Version {version} cannot train on samples of {max(oldest_versions)}.")
    _check(1, max_lag)
    old = {g for v, g in zip(oldest_versions, group_ids, strict=True) if version - v > max_lag}
    return [group not in old for group in group_ids]


def oldest_first(oldest_versions: Sequence[int], count: int) -> list[int]:
    """Places of the `count` samples to train on next: the oldest, of equal ones the first to come.

    Raises:
        ValueError: if there are fewer.
    """
    if count > len(oldest_versions):
        raise ValueError(f"{count} samples wanted, {len(oldest_versions)} are there.")
    return sorted(range(len(oldest_versions)), key=lambda place: oldest_versions[place])[:count]


def samples_per_sync(
    *,
    mini_batch: int,
    batches_per_sync: int,
    updates_per_sync: int,
    staleness: float,
    left_over: int,
) -> int:
    """Samples to draw between two transfers of parameters (verl, fully asynchronous).

        floor((1 + staleness) * updates_per_sync * batches_per_sync * mini_batch) - left_over

    Args:
        mini_batch: samples per mini-batch.
        batches_per_sync: mini-batches that one update of the trainer requires.
        updates_per_sync: updates of the trainer per transfer.
        staleness: share of a transfer's samples that may be of older parameters; 0 for none.
        left_over: samples that are still there from before.

    Raises:
        ValueError: for a negative staleness.
    """
    if staleness < 0:
        raise ValueError(f"staleness is {staleness}; it must be a share of 0 or more.")
    wanted = int((1.0 + staleness) * updates_per_sync * batches_per_sync * mini_batch)
    return max(0, wanted - left_over)


def _check(batch: int, max_lag: int) -> None:
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be a positive number of samples.")
    if max_lag < 0:
        raise ValueError(f"max_lag is {max_lag}; it must be a number of updates, 0 or more.")
