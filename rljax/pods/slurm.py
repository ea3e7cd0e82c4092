"""A run on nodes with GPUs under Slurm, as a batch script.

srun starts one process on each node and tells it who it is (SLURM_PROCID, SLURM_STEP_NUM_TASKS,
SLURM_STEP_NODELIST). An exit status that is worth another start (restarts.py) puts the job back
into the queue, where it waits for nodes that work; any other ends it. Slurm does the same by itself
when a node fails. Before the time is up every process gets SIGTERM and saves; the job goes on
later.
"""

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence

from rljax.errors import shown
from rljax.pods.names import check_label
from rljax.pods.restarts import RESTARTED
from rljax.pods.script import host_script
from rljax.pods.secrets import check_text
from rljax.pods.steps import flags_of

TIME = re.compile(r"\d+|(\d+-)?\d{1,2}(:\d{2}){1,2}")
WORD = re.compile(r"[\w.,:@/+-]+")
WAIT_SECONDS = 90  # that the others have to end after the first one: they say why


@dataclasses.dataclass(frozen=True)
class SlurmSettings:
    """What a batch script needs besides its name and its command.

    Attributes:
        nodes: each with one process.
        gpus: of each node.
        directory: of the code, on every node.
        logs: folder of the output, on every node; it must exist.
        cpus: of each process; 0 for Slurm's default.
        time: limit, such as "1-00:00:00"; "" for that of the partition.
        partition, account, container: "" for Slurm's default; container is an image for pyxis.
        variables: of the environment.
        secrets: names of variables that the one who submits has; Slurm passes them on.
        grace_seconds: from SIGTERM to the end of the time, for a step and its checkpoint.
        most_restarts: of the job.
        connect_seconds: that processes wait for each other.
    """

    nodes: int
    gpus: int
    directory: str
    logs: str
    cpus: int = 0
    time: str = ""
    partition: str = ""
    account: str = ""
    container: str = ""
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    secrets: Sequence[str] = ()
    grace_seconds: int = 300
    most_restarts: int = 50
    connect_seconds: int = 600


def render_job(name: str, command: Sequence[str], settings: SlurmSettings) -> str:
    """The batch script of one run, for sbatch.

    Args:
        name: of the job.
        command: launch/train.py and its flags.
        settings: of the script.

    Raises:
        ValueError: for what Slurm would refuse, or a secret.
    """
    check_label(name, "--name")
    options = _options(name, settings)
    script = host_script(
        command,
        processes=settings.nodes,
        connect_seconds=settings.connect_seconds,
        directory=settings.directory,
        variables=settings.variables,
        needed=settings.secrets,
    )
    container = f" --container-image={settings.container}" if settings.container else ""
    codes = "|".join(str(int(code)) for code in RESTARTED)
    text = "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in options),
            "",
            "status=0",
            # Without --kill-on-bad-exit all end by themselves and say why; --wait is for the rest.
            f"srun --label --kill-on-bad-exit=0 --wait={WAIT_SECONDS}{container} \\",
            f"    /bin/sh -c {shlex.quote(script)} || status=$?",
            "",
            'case "$status" in',
            f"    {codes})",
            f'        if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {settings.most_restarts} ]; then',
            '            echo "exit status $status: machines failed, the job is queued again"',
            '            scontrol requeue "$SLURM_JOB_ID"',
            "        fi",
            "        ;;",
            "esac",
            'exit "$status"',
            "",
        ]
    )
    check_text(text)
    return text


def _options(name: str, settings: SlurmSettings) -> list[str]:
    """Lines of #SBATCH.

    Raises:
        ValueError: for a value that would not be one word of its line.
    """
    if settings.time and not TIME.fullmatch(settings.time):
        raise ValueError(
            f"A time is MINUTES, HH:MM:SS or DAYS-HH:MM:SS, got {shown(settings.time)} (--time)."
        )
    for field in ("logs", "partition", "account", "container"):
        value = getattr(settings, field)
        if value and not WORD.fullmatch(value):
            raise ValueError(f"A script of Slurm cannot hold {shown(value)} (--{field}).")
    options = [
        f"--job-name={name}",
        f"--nodes={settings.nodes}",
        "--ntasks-per-node=1",
        f"--gpus-per-node={settings.gpus}",
        "--exclusive",
        "--requeue",
        "--open-mode=append",
        f"--signal=TERM@{settings.grace_seconds}",
        f"--output={settings.logs}/{name}-%j.log",
    ]
    given = {"cpus-per-task": settings.cpus, "time": settings.time}
    given |= {"partition": settings.partition, "account": settings.account}
    return options + flags_of(given)
