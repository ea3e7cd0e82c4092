"""A run on TPU slices of GKE, as a command of xpk.

xpk writes a JobSet of its own, which starts again as a whole, at once, and up to a number of times:
the only wait for a machine is that of the roll call. It starts again for 75, as it is told, and for
every status from 127 on, also for those that no other start mends: jobset.py is stricter. GKE tells
each process who it is. Folders are mounted as the cluster's storages are (`xpk storage`).
"""

import dataclasses
from collections.abc import Mapping, Sequence

from rljax.commands.statuses import Status
from rljax.pods.machines import Slice
from rljax.pods.names import check_image, check_label
from rljax.pods.script import host_script
from rljax.pods.secrets import check_text
from rljax.pods.steps import Command, Step, flags_of

LONGEST_NAME = 40


@dataclasses.dataclass(frozen=True)
class XpkSettings:
    """What xpk needs besides a name and a command.

    Attributes:
        slice: of each Job.
        image: with rljax in `directory`.
        cluster: of GKE.
        slices: how many.
        zone, project: of Google Cloud; "" for those that gcloud has been given.
        directory: of the code in the image.
        variables: of the environment.
        most_restarts: of the JobSet.
        repair_seconds: that processes wait for each other.
        grace_seconds: from SIGTERM to SIGKILL.
    """

    slice: Slice
    image: str
    cluster: str
    slices: int = 1
    zone: str = ""
    project: str = ""
    directory: str = "/rljax"
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    most_restarts: int = 50
    repair_seconds: int = 3600
    grace_seconds: int = 300


def xpk_steps(name: str, command: Sequence[str], settings: XpkSettings) -> list[Step]:
    """The command of xpk that starts a run.

    Args:
        name: of the workload.
        command: launch/train.py and its flags.
        settings: of the workload.

    Raises:
        ValueError: for what xpk would refuse, or a secret.
    """
    check_label(name, "--name", longest=LONGEST_NAME, letter_first=True)
    check_label(settings.cluster, "--cluster", longest=LONGEST_NAME, letter_first=True)
    check_image(settings.image)
    script = host_script(
        command,
        processes=settings.slice.hosts * settings.slices,
        connect_seconds=settings.repair_seconds,
        directory=settings.directory,
        variables=settings.variables,
    )
    words = (
        *("xpk", "workload", "create"),
        f"--workload={name}",
        f"--cluster={settings.cluster}",
        *flags_of({"zone": settings.zone, "project": settings.project}),
        f"--tpu-type={settings.slice.accelerator_type}",
        f"--num-slices={settings.slices}",
        f"--docker-image={settings.image}",
        f"--max-restarts={settings.most_restarts}",
        f"--restart-on-exit-codes={int(Status.RESTART)}",
        f"--termination-grace-period-seconds={settings.grace_seconds}",
        f"--command={script}",
    )
    check_text("\n".join(words))
    return [Step("xpk makes the workload", (Command(words),))]
