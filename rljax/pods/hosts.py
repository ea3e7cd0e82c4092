"""A run on machines that are reached by ssh: one TPU VM, a slice of TPU VMs, or a list of hosts.

TPU VMs are reached by gcloud, which starts the same command on all workers; their metadata server
tells each who it is. Hosts of a list are told by RLJAX_* variables, in the order of the list.
"""

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from rljax.errors import shown, unknown_name
from rljax.pods.machines import Slice
from rljax.pods.names import check_label
from rljax.pods.script import host_script, identity_lines, workdir_of
from rljax.pods.secrets import check_text
from rljax.pods.steps import Command, Step, flags_of
from rljax.processes.settings import DEFAULT_PORT

STEPS = ("create", "copy", "install", "train", "fetch", "delete")
COPIED = ("rljax", "launch", "configs", "setup.py", "pyproject.toml", "README.md")
HOST = re.compile(r"([\w.-]+@)?([A-Za-z0-9][\w.-]*)")
TPU_VM = ("gcloud", "compute", "tpus", "tpu-vm")


@dataclasses.dataclass(frozen=True)
class TpuVmSettings:
    """What TPU VMs need besides a name and a command.

    Attributes:
        slice: of the machines.
        zone, project: of Google Cloud; "" for those that gcloud has been given.
        steps: of `STEPS`, in their order.
        version: of the machine's software, for "create".
        spot: whether "create" takes machines that may be taken away.
        directory: of the code there, below the home folder or absolute.
        python: the interpreter there.
        variables: of the environment.
        secrets: names of variables that the hosts have.
        logs: folder here, for the lines of all workers and for what is fetched.
        connect_seconds: that processes wait for each other.
    """

    slice: Slice
    zone: str = ""
    project: str = ""
    steps: Sequence[str] = ("copy", "install", "train")
    version: str = ""
    spot: bool = False
    directory: str = "rljax"
    python: str = "python3"
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    secrets: Sequence[str] = ()
    logs: str = "logs"
    connect_seconds: int = 600


@dataclasses.dataclass(frozen=True)
class SshSettings:
    """What a list of hosts needs besides a command.

    Attributes:
        hosts: [USER@]HOST each; the first is process 0.
        slice: that the hosts are; None for machines of any kind.
        slices: of that kind.
        others: as in `TpuVmSettings`.
    """

    hosts: Sequence[str]
    slice: Slice | None = None
    slices: int = 1
    directory: str = "rljax"
    python: str = "python3"
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    secrets: Sequence[str] = ()
    connect_seconds: int = 600


def tpu_vm_steps(name: str, command: Sequence[str], settings: TpuVmSettings) -> list[Step]:
    """What is done for a run on one TPU VM, or on all workers of a slice.

    Args:
        name: of the TPU.
        command: launch/train.py and its flags.
        settings: of the machines.

    Raises:
        ValueError: for what gcloud would refuse, or a secret.
    """
    check_label(name, "--name")
    for step in settings.steps:
        if step not in STEPS:
            raise unknown_name("step", step, STEPS, "--steps")
    if "create" in settings.steps and not settings.version:
        raise ValueError("A TPU VM is created with the version of its software (--version=NAME).")
    script = host_script(
        command,
        processes=settings.slice.hosts,
        connect_seconds=settings.connect_seconds,
        directory=settings.directory,
        python=settings.python,
        variables=settings.variables,
        needed=settings.secrets,
    )
    makers = _makers(name, script, workdir_of(command), settings)
    made = [makers[step] for step in STEPS if step in settings.steps]
    for step in made:
        check_text("\n".join(step.commands[0].words))
    return made


def _makers(
    name: str, script: str, workdir: PurePosixPath, settings: TpuVmSettings
) -> dict[str, Step]:
    """Every step by its name."""
    where = flags_of({"zone": settings.zone, "project": settings.project})
    folder = shlex.quote(settings.directory)
    install = f"cd {folder} && {settings.python} -m pip install --quiet -e '.[tpu]'"
    create = [f"--accelerator-type={settings.slice.accelerator_type}"]
    create += [f"--version={settings.version}", *(["--spot"] if settings.spot else [])]
    copy = f"the code is copied into {settings.directory} of every worker"
    inside = workdir if workdir.is_absolute() else PurePosixPath(settings.directory) / workdir

    def gcloud(*words: str) -> Command:
        return Command((*TPU_VM, words[0], *where, *words[1:]))

    def everywhere(text: str, *more: str) -> Command:
        return gcloud("ssh", name, "--worker=all", f"--command={text}", *more)

    prepare = everywhere(f"mkdir -p {folder}").words
    send = gcloud("scp", "--recurse", "--worker=all", *COPIED, f"{name}:{settings.directory}").words
    both = f"{shlex.join(prepare)} && {shlex.join(send)}"
    fetch = gcloud("scp", "--recurse", "--worker=0", f"{name}:{inside}", settings.logs)
    return {
        "create": Step("the machines are made, and cost money", (gcloud("create", name, *create),)),
        "copy": Step(copy, (Command(("/bin/sh", "-c", both)),)),
        "install": Step("rljax is installed on every worker", (everywhere(install),)),
        "train": Step(
            "every worker runs the preflight, then the training",
            (everywhere(script, f"--output-directory={settings.logs}"),),
        ),
        "fetch": Step(f"the workdir is copied into {settings.logs}", (fetch,)),
        "delete": Step("the machines are deleted", (gcloud("delete", name, "--quiet"),)),
    }


def ssh_steps(command: Sequence[str], settings: SshSettings) -> list[Step]:
    """What is done for a run on a list of hosts: all at once, each with its number.

    Args:
        command: launch/train.py and its flags.
        settings: of the hosts.

    Raises:
        ValueError: for hosts that are none, are named twice, or are not as many as the slices have;
            for a secret.
    """
    names = _host_names(settings.hosts)
    if settings.slice is not None:
        wanted = settings.slice.hosts * settings.slices
        if len(names) != wanted:
            raise ValueError(
                f"{settings.slices} x {settings.slice.generation}:{settings.slice.topology} has "
                f"{wanted} hosts of {settings.slice.chips_per_host} chips, and {len(names)} are "
                "named (--hosts, --topology, --slices)."
            )
    commands = []
    for index, (login, name) in enumerate(zip(settings.hosts, names, strict=True)):
        script = host_script(
            command,
            processes=len(names),
            connect_seconds=settings.connect_seconds,
            directory=settings.directory,
            python=settings.python,
            variables=settings.variables,
            needed=settings.secrets,
            who=identity_lines(len(names), str(index), f"{names[0]}:{DEFAULT_PORT}"),
        )
        check_text(script)
        # With a terminal (-tt) the remote side ends when the connection does.
        options = ("-tt", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15")
        remote = f"exec /bin/sh -c {shlex.quote(script)}"
        commands.append(Command(("ssh", *options, login, remote), host=name))
    return [Step("every host runs the preflight, then the training", tuple(commands))]


def _host_names(hosts: Sequence[str]) -> list[str]:
    """The hosts without the users."""
    names = []
    for login in hosts:
        match = HOST.fullmatch(login)
        if match is None:
            raise ValueError(f"A host is [USER@]HOST, got {shown(login)} (--hosts).")
        if match[2] in names:
            raise ValueError(f"The host {match[2]} is named twice (--hosts).")
        names.append(match[2])
    return names
