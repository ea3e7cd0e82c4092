"""A run that is never interrupted, and the same run killed again and again."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rljax.chaos.attempt import Outcome, attempt
from rljax.chaos.compare import differences, final_steps, state_hash
from rljax.chaos.faults import flip_bit
from rljax.chaos.marks import START, Habits, habits
from rljax.chaos.plan import FLIP, FULL, Kill, Plan, first_time
from rljax.errors import StoppedError
from rljax.reporting.files import SUMMARY_FILE, read_json, write_json_atomic

HABITS_FILE = "habits.json"

# Signal -> statuses with which a run may answer it; 0: it had nothing left to do.
ANSWERS: Mapping[str, tuple[int, ...]] = {
    "SIGKILL": (-9,),
    FLIP: (-9,),
    "SIGTERM": (143, -15, 0),
    "SIGINT": (130, -2, 0),
    FULL: (1, 0),
}

# With several processes the command that started them says how they ended: where one was killed,
# start again.
RESTART = 75
ANSWERS_OF_SEVERAL = {
    **ANSWERS,
    **{"SIGKILL": (RESTART, 0), FLIP: (RESTART, 0), "SIGTERM": (143, 0), "SIGINT": (130, 0)},
    FULL: (1, RESTART, 0),
}
# Before they have joined, a signal ends a process silently.
AT_START = {"SIGTERM": (RESTART,), "SIGINT": (RESTART,)}

# So often in a row several processes may end with RESTART and without a kill, as they do where a
# machine is so busy that one of them is missed by the others; whoever started them does so again.
MOST_RESTARTS = 3

LAST_LINES = 15  # of the output of an attempt that went wrong


class Killed(NamedTuple):
    """A kill that came."""

    kill: Kill
    hit: str  # phase
    status: int
    problems: tuple[str, ...]


class Verdict(NamedTuple):
    """What came of all kills."""

    killed: list[Killed]
    rounds: int  # runs that were brought to their end
    processes: int  # that were started for them
    problems: list[str]  # of kills and comparisons
    hashes: dict[str, str]  # of the last state of each stage
    set_aside: int  # checkpoints, after a bit was flipped
    restarts: int = 0  # of several processes that asked for it without a kill

    @property
    def good(self) -> bool:
        """Whether nothing is different."""
        return not self.problems

    def as_json(self, kills: int) -> dict[str, Any]:
        """Counts and problems."""
        counts: dict[str, Counter] = {}
        for each in self.killed:
            counts.setdefault(each.hit, Counter())[each.kill.signal] += 1
        return {
            "good": self.good,
            "kills": kills,
            "killed": len(self.killed),
            "held": sum(not each.problems for each in self.killed),
            "by_phase": {phase: dict(counts[phase]) for phase in sorted(counts)},
            "by_signal": dict(Counter(each.kill.signal for each in self.killed)),
            "rounds": self.rounds,
            "processes": self.processes,
            "checkpoints_set_aside": self.set_aside,
            "restarts": self.restarts,
            "problems": self.problems,
            "state_sha256": self.hashes,
        }


class Campaign:
    """Kills one command."""

    def __init__(
        self,
        command: Callable[[Path], Sequence[str]],
        environment: Mapping[str, str],
        folder: Path,
        *,
        processes: int = 1,
        timeout: float = 900.0,
        say: Callable[[str], None] = print,
    ) -> None:
        """Puts together what is run.

        Args:
            command: workdir -> words.
            environment: of the processes.
            folder: for the reference and the killed runs.
            processes: that the command starts beside each other.
            timeout: seconds after which an attempt counts as hanging.
            say: takes a line about every attempt.
        """
        self.command, self.environment, self.folder = command, environment, folder
        self.processes, self.timeout, self.say = processes, timeout, say
        self.reference = folder / "reference"

    def learn(self) -> Habits:
        """Runs the reference, unless it is there, and says how it goes.

        Raises:
            StoppedError: if it fails.
            ValueError: if the folder has the reference of another command.
        """
        words, stored = list(self.command(self.reference)), read_json(self.folder / HABITS_FILE)
        if stored and (self.reference / SUMMARY_FILE).exists():
            if stored["command"] != words:
                raise ValueError(
                    f"{self.folder} has the reference of another command, "
                    f"{' '.join(stored['command'])}: give another folder (--workdir)."
                )
            return Habits(**stored["habits"])
        shutil.rmtree(self.reference, ignore_errors=True)
        self.say("the reference is run, uninterrupted")
        outcome = self._attempt(self.reference)
        if outcome.status:
            raise StoppedError(f"The run fails without being killed:\n{tail(outcome.output)}")
        # Once more, on other folders and with warm programs: that is how killed runs go.
        shutil.rmtree(self.folder / "warm", ignore_errors=True)
        warm = self._attempt(self.folder / "warm")
        if lines := differences(self.folder / "warm", self.reference):
            raise StoppedError(
                "Two runs that were not killed differ, so that nothing can be said of killed "
                "ones:\n  " + "\n  ".join(lines)
            )
        shutil.rmtree(self.folder / "warm")
        found = habits(warm.marks, warm.began)
        learned = {"command": words, "habits": found._asdict()}
        write_json_atomic(self.folder / HABITS_FILE, learned)
        return found

    def run(self, kills: int, seed: int, inject: bool = False) -> Verdict:
        """Kills so often, in as many runs as that takes, and compares each of these at its end.

        Raises:
            StoppedError: if the reference fails, or a run cannot be brought to its end.
        """
        habits, chosen = self.learn(), random.Random(seed + 1)
        plan, killed, problems = Plan(seed, habits, inject), [], []
        processes = rounds = set_aside = restarts = 0
        while len(killed) < kills:
            rounds += 1
            workdir, flipped, first = self.folder / f"round-{rounds}", False, False
            in_a_row = 0
            shutil.rmtree(workdir, ignore_errors=True)
            while True:
                kill = plan.next() if len(killed) < kills else None
                kill = first_time(kill) if kill and first else kill
                outcome, processes = self._attempt(workdir, kill, chosen), processes + 1
                found = self._problems(outcome, kill)
                if kill is not None and outcome.hit is None:
                    plan.again(kill)  # the run was over before
                    first = True
                elif kill is not None:
                    first = False
                    killed.append(Killed(kill, outcome.hit, outcome.status, tuple(found)))
                    self.say(described(len(killed), kills, killed[-1]))
                problems += [f"round {rounds}, {line}" for line in found]
                if outcome.status == 0:
                    break
                in_a_row = in_a_row + 1 if outcome.hit is None else 0
                if self._is_restarted(outcome, in_a_row):
                    restarts += 1
                    self.say(f"status {RESTART} without a kill: started again")
                elif outcome.hit is None:
                    raise StoppedError(
                        f"A run that was continued in {workdir} fails with status "
                        f"{outcome.status}:\n{tail(outcome.output)}"
                    )
                if outcome.hit is not None and kill.signal == FLIP:
                    flipped = flip_bit(workdir, chosen) is not None or flipped
            lines = differences(workdir, self.reference, damaged=flipped)
            problems += [f"round {rounds}: {line}" for line in lines]
            set_aside += len(list((workdir / "damaged").glob("*/*")))
            self.say(f"run {rounds} is complete: {'the same' if not lines else '; '.join(lines)}")
            if not lines:
                shutil.rmtree(workdir)
        hashes = {name: state_hash(step) for name, step in final_steps(self.reference).items()}
        return Verdict(killed, rounds, processes, problems, hashes, set_aside, restarts)

    def _attempt(
        self, workdir: Path, kill: Kill | None = None, chosen: random.Random | None = None
    ) -> Outcome:
        return attempt(
            self.command(workdir),
            self.environment,
            kill=kill,
            timeout=self.timeout,
            chosen=chosen,
        )

    def _is_restarted(self, outcome: Outcome, in_a_row: int) -> bool:
        """Whether an attempt that nobody killed asks to be started again, and may be."""
        wanted = outcome.hit is None and outcome.status == RESTART and not outcome.timed_out
        return wanted and self.processes > 1 and in_a_row <= MOST_RESTARTS

    def _answers(self, signal: str, phase: str) -> tuple[int, ...]:
        """Statuses with which the command may answer."""
        if self.processes == 1:
            return ANSWERS[signal]
        early = AT_START.get(signal, ()) if phase == START else ()
        return ANSWERS_OF_SEVERAL[signal] + early

    def _problems(self, outcome: Outcome, kill: Kill | None) -> list[str]:
        """What is wrong with the way in which an attempt ended."""
        what = f"{kill.signal} in {outcome.hit}" if kill and outcome.hit else "no kill"
        lines = []
        if outcome.timed_out:
            lines.append(f"{what}: it hung for {self.timeout:.0f} s and had to be ended")
        elif outcome.hit is not None:
            if outcome.status not in self._answers(kill.signal, outcome.hit):
                lines.append(f"{what}: status {outcome.status}:\n{tail(outcome.output)}")
            elif kill.signal not in ("SIGKILL", FLIP) and "Traceback" in outcome.output:
                lines.append(f"{what}: a traceback:\n{tail(outcome.output)}")
        lines += [f"{what}: process {line} was left behind" for line in outcome.orphans]
        return lines


def described(number: int, kills: int, killed: Killed) -> str:
    """One line about a kill."""
    kill, aimed = killed.kill, ""
    if killed.hit != kill.phase:
        aimed = f", aimed at {kill.phase}"
    held = "" if not killed.problems else "  PROBLEM"
    return (
        f"{number}/{kills} {kill.signal} in {killed.hit}{aimed}, time {kill.occurrence}: "
        f"status {killed.status}{held}"
    )


def tail(output: str) -> str:
    """The last lines of an output, indented."""
    return "\n".join(f"    {line}" for line in output.strip().splitlines()[-LAST_LINES:])
