"""A run on TPU slices of GKE, as the YAML of a JobSet.

Each slice is a Job, each of its hosts a pod, and pod h of slice s is process s * hosts + h. What
follows a failure depends on its exit status (restarts.py): one that is worth another start makes
the Job start this pod again, after waits that double; any other ends the Job, and with it the
JobSet, at once. A pod that Kubernetes itself ended, as for the repair or the preemption of its
node, is not counted. All processes of a run end together (rljax/processes), so all pods start
again together.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from rljax.pods.machines import Slice
from rljax.pods.names import check_image, check_job_name, check_label, check_variable
from rljax.pods.restarts import RESTARTED, retries_for
from rljax.pods.script import host_script, identity_lines, train_words, workdir_of
from rljax.pods.secrets import check_text
from rljax.processes.settings import DEFAULT_PORT

CONTAINER = "train"
JOB = "slice"
TPU_PORTS = (8471, 8080)  # of the TPU runtime, and between slices
JOB_INDEX = "metadata.annotations['jobset.sigs.k8s.io/job-index']"
EXCLUSIVE = "alpha.jobset.sigs.k8s.io/exclusive-topology"


@dataclasses.dataclass(frozen=True)
class JobSetSettings:
    """What a JobSet needs besides its name and its command.

    Attributes:
        slice: of each Job.
        image: with rljax in `directory`.
        slices: how many.
        namespace: of Kubernetes.
        directory: of the code in the image.
        volumes: claim of a persistent volume -> the folder where it is mounted.
        variables: of the environment.
        secrets: variable -> "SECRET:KEY" of a Kubernetes secret.
        node_labels: that nodes must have besides those of the slice, such as spot.
        service_account: of Kubernetes; "" for the default one.
        repair_seconds: within which a broken node is replaced: so long the pods wait for each
            other, and so long they are started again.
        grace_seconds: from SIGTERM to SIGKILL, for a step and its checkpoint.
    """

    slice: Slice
    image: str
    slices: int = 1
    namespace: str = "default"
    directory: str = "/rljax"
    volumes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict)
    node_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    service_account: str = ""
    repair_seconds: int = 3600
    grace_seconds: int = 300


def render_job(name: str, command: Sequence[str], settings: JobSetSettings) -> str:
    """The YAML of one run.

    Args:
        name: of the JobSet.
        command: launch/train.py and its flags.
        settings: of the JobSet.

    Raises:
        ValueError: for what Kubernetes or GKE would refuse, for a workdir that is lost with its
            pod, for a secret.
    """
    check_settings(name, command, settings)
    text = yaml.dump(job_set(name, command, settings), Dumper=_Dumper, sort_keys=False)
    check_text(text)
    return text


def check_settings(name: str, command: Sequence[str], settings: JobSetSettings) -> None:
    """Raises ValueError for what could not run."""
    of = settings.slice
    check_job_name(name, settings.slices, of.hosts)
    check_label(settings.namespace, "--namespace")
    check_image(settings.image)
    if settings.slices > 1 and of.hosts == 1:
        raise ValueError(
            f"GKE joins slices of several hosts only, and {of.generation}:{of.topology} has one "
            "(--slices, --topology, --machine)."
        )
    for claim, folder in settings.volumes.items():
        check_label(claim, "--volume")
        if not folder.startswith("/"):
            raise ValueError(f"A volume is CLAIM:/FOLDER, got {claim}:{folder} (--volume).")
    for variable, place in settings.secrets.items():
        check_variable(variable, "--secret")
        secret, colon, key = place.partition(":")
        if not secret or not key:
            raise ValueError(
                f"A secret is VARIABLE=SECRET:KEY of Kubernetes, got {variable}=... (--secret)."
            )
        check_label(secret, "--secret")
    workdir = workdir_of(train_words(command))
    if not any(workdir.is_relative_to(folder) for folder in settings.volumes.values()):
        known = ", ".join(settings.volumes.values()) or "none"
        raise ValueError(
            f"The workdir {workdir} would be lost with its pod: it must lie in a volume that all "
            f"pods share; mounted: {known} (--workdir, --volume=CLAIM:/FOLDER)."
        )


def job_set(name: str, command: Sequence[str], settings: JobSetSettings) -> dict[str, Any]:
    """The JobSet as plain values; `name` and settings have been checked."""
    replicated = {"name": JOB, "replicas": settings.slices}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            # One slice, one node pool: no two Jobs share the hosts of a slice.
            "annotations": {EXCLUSIVE: "cloud.google.com/gke-nodepool"},
        },
        "spec": {
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            # Jobs start their pods again themselves, so a Job that has failed has failed for good.
            "failurePolicy": {
                "maxRestarts": 0,
                "rules": [
                    {
                        "name": "mended-by-hand",
                        "action": "FailJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    }
                ],
            },
            "replicatedJobs": [
                {**replicated, "template": {"spec": job_spec(name, command, settings)}}
            ],
        },
    }


def job_spec(name: str, command: Sequence[str], settings: JobSetSettings) -> dict[str, Any]:
    """The spec of the Job of one slice (batch/v1)."""
    hosts = settings.slice.hosts
    return {
        "parallelism": hosts,
        "completions": hosts,
        "completionMode": "Indexed",
        "backoffLimitPerIndex": retries_for(settings.repair_seconds),
        "maxFailedIndexes": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": CONTAINER,
                        "operator": "NotIn",
                        "values": list(map(int, RESTARTED)),
                    },
                },
            ]
        },
        "template": {"spec": pod_spec(name, command, settings)},
    }


def pod_spec(name: str, command: Sequence[str], settings: JobSetSettings) -> dict[str, Any]:
    """The spec of the pod of one host."""
    of = settings.slice
    claims = settings.volumes.items()
    account = settings.service_account
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": settings.grace_seconds,
        **({"serviceAccountName": account} if account else {}),
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": of.accelerator,
            "cloud.google.com/gke-tpu-topology": of.topology,
            **settings.node_labels,
        },
        "containers": [container(name, command, settings)],
        "volumes": [
            {"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim, _ in claims
        ],
    }


def container(name: str, command: Sequence[str], settings: JobSetSettings) -> dict[str, Any]:
    """The one container of a pod."""
    of = settings.slice
    ports = (DEFAULT_PORT, DEFAULT_PORT + 1, *TPU_PORTS)
    chips = {"google.com/tpu": of.chips_per_host}
    return {
        "name": CONTAINER,
        "image": settings.image,
        "command": ["/bin/sh", "-c", escaped(script(name, command, settings))],
        "ports": [{"containerPort": port} for port in ports],
        "env": [
            {"name": "JOB_INDEX", "valueFrom": {"fieldRef": {"fieldPath": JOB_INDEX}}},
            *(_secret(variable, place) for variable, place in settings.secrets.items()),
        ],
        "resources": {"requests": chips, "limits": dict(chips)},
        "volumeMounts": [
            {"name": claim, "mountPath": folder} for claim, folder in settings.volumes.items()
        ],
    }


def script(name: str, command: Sequence[str], settings: JobSetSettings) -> str:
    """What a pod runs; Kubernetes sets JOB_COMPLETION_INDEX."""
    hosts = settings.slice.hosts
    processes = hosts * settings.slices
    who = identity_lines(
        processes,
        f"$((JOB_INDEX * {hosts} + JOB_COMPLETION_INDEX))",
        f"{name}-{JOB}-0-0.{name}:{DEFAULT_PORT}",
    )
    return host_script(
        command,
        processes=processes,
        connect_seconds=settings.repair_seconds,
        directory=settings.directory,
        variables=settings.variables,
        needed=settings.secrets,
        who=who,
    )


def escaped(text: str) -> str:
    """A text that Kubernetes leaves as it is: in commands it reads $(NAME), and $$ as one $."""
    return re.sub(r"\$(?=[$(])", "$$", text)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = "|" if "\n" in text else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def _secret(variable: str, place: str) -> dict[str, Any]:
    secret, _, key = place.partition(":")
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
