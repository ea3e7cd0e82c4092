"""Brings a run onto TPU VMs, hosts of a list, GKE or Slurm. Without --run it only says how.

    python launch/pod.py KIND --name=NAME ... -- launch/train.py --config=FILE --workdir=DIR
    python launch/pod.py KIND --name=NAME ... --run -- launch/train.py --config=FILE --workdir=DIR

KIND is vm, slice, ssh, jobset, xpk or slurm. Hosts run the preflight first (launch/train.py
--preflight). Secrets are given by name: files and commands never hold their values.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rljax.commands.parser import Parser, named, path, whole, words
from rljax.commands.paths import check_file
from rljax.commands.run import run
from rljax.errors import shown, unknown_name
from rljax.pods import jobset, slurm
from rljax.pods.hosts import STEPS, SshSettings, TpuVmSettings, ssh_steps, tpu_vm_steps
from rljax.pods.machines import Slice, read_slice
from rljax.pods.steps import Command, Step, as_shell, run_steps
from rljax.pods.xpk import XpkSettings, xpk_steps

KINDS = {
    "vm": "one TPU VM, by gcloud",
    "slice": "a slice of TPU VMs, by gcloud: the same command on all workers",
    "ssh": "hosts of a list, by ssh",
    "jobset": "TPU slices of GKE, a JobSet in YAML",
    "xpk": "TPU slices of GKE, a command of xpk",
    "slurm": "nodes with GPUs, a batch script",
}
COMMON = {"name", "env", "out", "run", "traceback"}
# The flags of each kind besides those that all have; another one is an error, not ignored.
FLAGS = {
    "vm": {
        *("topology", "zone", "project", "steps", "version", "spot", "directory", "python"),
        *("secret", "logs"),
    },
    "ssh": {
        *("hosts", "topology", "slices", "directory", "python", "secret", "logs"),
        "connect_seconds",
    },
    "jobset": {
        *("topology", "machine", "slices", "image", "namespace", "volume", "secret", "directory"),
        *("node_label", "service_account", "repair_seconds", "grace_seconds", "logs"),
    },
    "xpk": {
        *("topology", "machine", "slices", "image", "cluster", "zone", "project", "directory"),
        *("restarts", "repair_seconds", "grace_seconds", "logs"),
    },
    "slurm": {
        *("nodes", "gpus", "cpus", "time", "partition", "account", "container", "directory"),
        *("secret", "logs", "grace_seconds", "restarts", "connect_seconds"),
    },
}
FLAGS["slice"] = FLAGS["vm"] | {"connect_seconds"}


def parser() -> Parser:
    """The parser of all flags, which stand before --."""
    made = Parser(__doc__)
    kinds = "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())
    made.add_argument("kind", help=kinds)
    add = made.add_argument
    many = {"action": "append", "default": [], "type": pair, "metavar": "NAME=VALUE"}
    add("--name", type=named, default="rljax", help="of the job, or of the TPU VM (rljax)")
    add("--topology", type=named, metavar="GENERATION:TOPOLOGY", help="a slice, as v5p:4x4x8")
    add("--machine", type=str, default="", help="type of the nodes, as ct6e-standard-4t")
    add("--slices", type=whole(1, 4096), default=1, help="how many (1)")
    add("--image", type=str, default="", help="of the container, with rljax in --directory")
    add("--cluster", type=str, default="", help="of GKE, for xpk")
    add("--namespace", type=named, default="default", help="of Kubernetes (default)")
    add(
        "--volume",
        action="append",
        default=[],
        metavar="CLAIM:/FOLDER",
        type=volume,
        help="a persistent volume claim, and where it is mounted",
    )
    add("--node-label", **many, help="that nodes must have, as cloud.google.com/gke-spot=true")
    add("--service-account", type=str, default="", help="of Kubernetes")
    add("--env", **many, help="a variable of the environment; no secret")
    add(
        "--secret",
        action="append",
        default=[],
        metavar="VARIABLE[=SECRET:KEY]",
        type=named,
        help="by name: of a Kubernetes secret (jobset), or a variable that the hosts have",
    )
    add("--zone", type=str, default="", help="of Google Cloud")
    add("--project", type=str, default="", help="of Google Cloud")
    add("--steps", type=words, default=None, help=f"of {', '.join(STEPS)} (copy,install,train)")
    add("--version", type=str, default="", help="of a TPU VM's software, to create it")
    add("--spot", action="store_true", help="create machines that may be taken away")
    add("--hosts", type=words, default=(), help="[USER@]HOST between commas; the first is number 0")
    add("--nodes", type=whole(1, 65_536), help="of Slurm, each with one process")
    add("--gpus", type=whole(1, 64), help="of each node")
    add("--cpus", type=whole(1, 4096), default=0, help="of each node's process")
    add("--time", type=str, default="", help="limit of a job of Slurm, as 1-00:00:00")
    add("--partition", type=str, default="", help="of Slurm")
    add("--account", type=str, default="", help="of Slurm")
    add("--container", type=str, default="", help="image for srun --container-image (pyxis)")
    add("--directory", type=str, default="", help="of the code, on the hosts or in the image")
    add("--python", type=named, default="python3", help="the interpreter on the hosts (python3)")
    add("--repair-seconds", type=whole(60, 86_400), default=3600, help="to replace a node (3600)")
    add("--connect-seconds", type=whole(1, 86_400), default=600, help="for all hosts to come (600)")
    add("--grace-seconds", type=whole(1, 86_400), default=300, help="after SIGTERM (300)")
    add("--restarts", type=whole(0, 10_000), default=50, help="at most so many (50)")
    add("--logs", type=named, default="logs", help="folder for the lines of each host (logs)")
    add("--out", type=path, metavar="FILE", help="write what is rendered there, too")
    add("--run", action="store_true", help="do it; without it what would be done is printed")
    return made


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value


def volume(text: str) -> tuple[str, str]:
    """CLAIM:/FOLDER."""
    claim, colon, folder = text.partition(":")
    if not claim or not folder.startswith("/"):
        raise argparse.ArgumentTypeError(f"must be CLAIM:/FOLDER, got {shown(text)}")
    return claim, folder


def launch(options: argparse.Namespace, command: Sequence[str], given: set[str]) -> int | None:
    """Renders, shows, and with --run does it."""
    if options.kind not in KINDS:
        raise unknown_name("kind", options.kind, KINDS, "KIND")
    for flag in sorted(given - COMMON - FLAGS[options.kind]):
        taken = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(FLAGS[options.kind]))
        raise ValueError(
            f"{options.kind} has no --{flag.replace('_', '-')}; it takes {taken} "
            f"(--{flag.replace('_', '-')})."
        )
    if options.out is not None:
        check_file(options.out, "--out")
    text, steps = RENDER[options.kind](options, command)
    if options.out is not None:
        options.out.write_text(text)
    if not options.run:
        print(text, end="")
        return None
    return run_steps(steps, Path(options.logs))


def tpu_vm(options: argparse.Namespace, command: Sequence[str]) -> tuple[str, list[Step]]:
    """One TPU VM, or a slice of them."""
    slice_ = slice_of(options)
    if options.kind == "vm" and slice_.hosts > 1:
        raise ValueError(
            f"{options.topology} has {slice_.hosts} hosts, and vm is one (--topology): "
            "python launch/pod.py slice ..."
        )
    steps = tpu_vm_steps(
        options.name,
        command,
        TpuVmSettings(
            slice_,
            zone=options.zone,
            project=options.project,
            steps=options.steps or TpuVmSettings.steps,
            version=options.version,
            spot=options.spot,
            directory=options.directory or TpuVmSettings.directory,
            python=options.python,
            variables=mapping(options.env, "--env"),
            secrets=names(options.secret),
            logs=options.logs,
            connect_seconds=options.connect_seconds,
        ),
    )
    return as_shell(steps), steps


def ssh(options: argparse.Namespace, command: Sequence[str]) -> tuple[str, list[Step]]:
    """Hosts of a list."""
    if not options.hosts:
        raise ValueError("ssh needs the hosts: --hosts=HOST,HOST,... (--hosts).")
    settings = SshSettings(
        options.hosts,
        slice=slice_of(options) if options.topology else None,
        slices=options.slices,
        directory=options.directory or SshSettings.directory,
        python=options.python,
        variables=mapping(options.env, "--env"),
        secrets=names(options.secret),
        connect_seconds=options.connect_seconds,
    )
    steps = ssh_steps(command, settings)
    return as_shell(steps), steps


def gke(options: argparse.Namespace, command: Sequence[str]) -> tuple[str, list[Step]]:
    """A JobSet, which kubectl creates."""
    settings = jobset.JobSetSettings(
        slice_of(options),
        options.image,
        slices=options.slices,
        namespace=options.namespace,
        directory=options.directory or jobset.JobSetSettings.directory,
        volumes=mapping(options.volume, "--volume"),
        variables=mapping(options.env, "--env"),
        secrets=mapping([pair_of_secret(text) for text in options.secret], "--secret"),
        node_labels=mapping(options.node_label, "--node-label"),
        service_account=options.service_account,
        repair_seconds=options.repair_seconds,
        grace_seconds=options.grace_seconds,
    )
    text = jobset.render_job(options.name, command, settings)
    create = Command(("kubectl", "create", "-f", "-"), text=text)
    return text, [Step("kubectl creates the JobSet", (create,))]


def xpk(options: argparse.Namespace, command: Sequence[str]) -> tuple[str, list[Step]]:
    """A command of xpk."""
    settings = XpkSettings(
        slice_of(options),
        options.image,
        options.cluster,
        slices=options.slices,
        zone=options.zone,
        project=options.project,
        directory=options.directory or XpkSettings.directory,
        variables=mapping(options.env, "--env"),
        most_restarts=options.restarts,
        repair_seconds=options.repair_seconds,
        grace_seconds=options.grace_seconds,
    )
    steps = xpk_steps(options.name, command, settings)
    return as_shell(steps), steps


def batch(options: argparse.Namespace, command: Sequence[str]) -> tuple[str, list[Step]]:
    """A batch script, which sbatch takes."""
    for flag in ("nodes", "gpus", "directory"):
        if not getattr(options, flag):
            raise ValueError(f"slurm needs --{flag}=VALUE (--{flag}).")
    settings = slurm.SlurmSettings(
        options.nodes,
        options.gpus,
        options.directory,
        options.logs,
        cpus=options.cpus,
        time=options.time,
        partition=options.partition,
        account=options.account,
        container=options.container,
        variables=mapping(options.env, "--env"),
        secrets=names(options.secret),
        grace_seconds=options.grace_seconds,
        most_restarts=options.restarts,
        connect_seconds=options.connect_seconds,
    )
    text = slurm.render_job(options.name, command, settings)
    return text, [Step("sbatch queues the job", (Command(("sbatch",), text=text),))]


RENDER: dict[str, Callable[[argparse.Namespace, Sequence[str]], tuple[str, list[Step]]]] = {
    **{"vm": tpu_vm, "slice": tpu_vm, "ssh": ssh, "jobset": gke, "xpk": xpk, "slurm": batch}
}


def slice_of(options: argparse.Namespace) -> Slice:
    """The slice that --topology and --machine name."""
    if not options.topology:
        raise ValueError(f"{options.kind} needs a slice, such as --topology=v6e:4x8 (--topology).")
    return read_slice(options.topology, options.machine)


def mapping(pairs: Sequence[tuple[str, str]], flag: str) -> dict[str, str]:
    """Pairs as a mapping; a name that is given twice is an error."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name} is given twice ({flag}).")
        found[name] = value
    return found


def names(secrets: Sequence[str]) -> list[str]:
    """Names of variables that the hosts have."""
    for text in secrets:
        if "=" in text:
            raise ValueError(
                f"Here a secret is the name of a variable that the hosts have, got "
                f"{text.partition('=')[0]}=... (--secret)."
            )
    return list(dict.fromkeys(secrets))


def pair_of_secret(text: str) -> tuple[str, str]:
    """VARIABLE=SECRET:KEY; what is wrong with it is said where all secrets are checked."""
    name, _, place = text.partition("=")
    return name, place


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    said = sys.argv[1:] if arguments is None else list(arguments)
    end = said.index("--") if "--" in said else len(said)
    flags = [word.partition("=")[0] for word in said[:end] if word.startswith("--")]
    given = {flag.removeprefix("--").replace("-", "_") for flag in flags}
    return run(parser(), lambda options: launch(options, said[end + 1 :], given), said[:end])


if __name__ == "__main__":
    sys.exit(main())
