"""JobSets of GKE: what Kubernetes takes, who is which process, and what starts again."""

import re
import signal

import pytest
import yaml

from rljax.commands.statuses import Status
from rljax.pods import jobset
from rljax.pods.machines import read_slice
from rljax.pods.names import check_label
from rljax.pods.restarts import retries_for
from rljax.processes.identity import identify
from rljax.processes.settings import Settings
from tests.pods.scripts import TRAIN, environment_after, refused

VOLUMES = {"runs": "/runs"}


def jobset_of(name="grpo", command=TRAIN, topology="v6e:4x8", **given):
    settings = {"image": "registry/rljax:1", "volumes": VOLUMES, **given}
    text = jobset.render_job(name, command, jobset.JobSetSettings(read_slice(topology), **settings))
    return yaml.safe_load(text)


def job_of(job_set):
    (replicated,) = job_set["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def container_of(job_set):
    (container,) = job_of(job_set)["template"]["spec"]["containers"]
    return container


def expanded(text, variables):
    """What Kubernetes makes of a command: $(NAME) where NAME is set, and $$ as one $."""
    found = re.compile(r"\$\$|\$\(([^)]*)\)")
    return found.sub(lambda m: "$" if m[0] == "$$" else variables.get(m[1], m[0]), text)


@pytest.mark.parametrize("slices", [1, 3])
def test_pods_of_a_jobset_are_the_processes_of_one_run(slices, tmp_path):
    found = jobset_of(slices=slices, directory=str(tmp_path), variables={"A": "it's $(JOB_INDEX)"})
    job, container = job_of(found), container_of(found)
    (replicated,) = found["spec"]["replicatedJobs"]
    assert replicated["replicas"] == slices and job["completions"] == job["parallelism"] == 8
    shell, flag, script = container["command"]
    assert (shell, flag) == ("/bin/sh", "-c")
    seen = []
    for slice_ in range(slices):
        for host in range(8):
            environ = {"JOB_INDEX": str(slice_), "JOB_COMPLETION_INDEX": str(host)}
            said, inside, _ = environment_after(expanded(script, environ), environ, tmp_path)
            identity = identify(Settings(), inside)
            assert identity[1:5] == (8 * slices, "grpo-slice-0-0.grpo", 8476, 8477)
            seen.append(identity.index)
    assert seen == list(range(8 * slices))
    assert inside["A"] == "it's $(JOB_INDEX)"
    assert said == [
        "launch/train.py --config=configs/quickstart.py --workdir=/runs/one "
        "--config.processes.connect_seconds=3600 --preflight",
        "launch/train.py --config=configs/quickstart.py --workdir=/runs/one "
        "--config.processes.connect_seconds=3600",
    ]
    ports = {port["containerPort"] for port in container["ports"]}
    assert {identity.port, identity.roll_call_port} <= ports


def test_nothing_is_trained_where_the_preflight_fails(tmp_path):
    script = container_of(jobset_of(directory=str(tmp_path)))["command"][2]
    environ = {"JOB_INDEX": "0", "JOB_COMPLETION_INDEX": "0", "FAIL": "75"}
    said, _, done = environment_after(expanded(script, {}), environ, tmp_path)
    assert len(said) == 1 and said[0].endswith("--preflight") and done.returncode == 75


def pod_failure(job, code, disrupted=False):
    """What the rules of a Job say of a pod, as Kubernetes reads them: the first that matches."""
    for rule in job["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes")
        if codes and code and (code in codes["values"]) == (codes["operator"] == "In"):
            return rule["action"]
        for condition in rule.get("onPodConditions", ()):
            if disrupted and condition == {"type": "DisruptionTarget", "status": "True"}:
                return rule["action"]
    return "Count"


def test_a_jobset_starts_again_after_failures_of_machines_only():
    found = jobset_of(slices=2)
    job = job_of(found)
    again = {int(Status.RESTART), int(Status.TERMINATED), 128 + signal.SIGABRT, 137}
    for code in range(1, 256):
        assert pod_failure(job, code) == ("Count" if code in again else "FailJob"), code
        assert pod_failure(job, code, disrupted=True) == "Ignore"
    policy = found["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 0
    assert policy["rules"][0]["action"] == "FailJobSet"
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["podReplacementPolicy"] == "Failed" and "backoffLimit" not in job


def test_waits_last_as_long_as_a_repair():
    # 10 + 20 + 40 + 80 + 160 + 320, and 360 from then on.
    assert [retries_for(s) for s in (1, 10, 11, 630, 631, 990, 991)] == [1, 1, 2, 6, 7, 7, 8]
    assert job_of(jobset_of(repair_seconds=630))["backoffLimitPerIndex"] == 6


def test_nodes_and_chips_of_a_jobset():
    found = jobset_of(topology="v5p:4x4x8", node_labels={"cloud.google.com/gke-spot": "true"})
    pod = job_of(found)["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
        "cloud.google.com/gke-tpu-topology": "4x4x8",
        "cloud.google.com/gke-spot": "true",
    }
    resources = container_of(found)["resources"]
    assert resources["limits"] == resources["requests"] == {"google.com/tpu": 4}
    assert job_of(found)["completions"] == 32


def test_a_secret_is_named_and_nothing_more():
    found = jobset_of(secrets={"WANDB_API_KEY": "wandb:key"})
    named = {
        "name": "WANDB_API_KEY",
        "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "key"}},
    }
    assert named in container_of(found)["env"]


@pytest.mark.parametrize("slices", [1, 4])
def test_the_job_inside_is_one_of_kubernetes(slices):
    validate = pytest.importorskip("kubernetes_validate")
    found = jobset_of(slices=slices, secrets={"A": "b:c"}, service_account="trainer")
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "x"},
        "spec": job_of(found),
    }
    validate.validate(job, validate.latest_version(), strict=True)
    del job["spec"]["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["status"]
    job["spec"]["backofLimit"] = 1
    with pytest.raises(validate.ValidationError):
        validate.validate(job, validate.latest_version(), strict=True)


# What the schemas leave to the API server, by kind: fields that it takes, and those it needs.
JOBSET_FIELDS = {"network", "failurePolicy", "replicatedJobs"}
JOB_FIELDS = {
    *("parallelism", "completions", "completionMode", "backoffLimitPerIndex", "maxFailedIndexes"),
    *("podReplacementPolicy", "podFailurePolicy", "template"),
}


def test_the_form_of_a_jobset():
    found = jobset_of(slices=2)
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert set(found["spec"]) == JOBSET_FIELDS
    (replicated,) = found["spec"]["replicatedJobs"]
    assert set(replicated) == {"name", "replicas", "template"}
    job = job_of(found)
    assert set(job) == JOB_FIELDS
    # An index may fail so often only in an indexed Job whose pods are never restarted in place.
    assert job["completionMode"] == "Indexed" and job["maxFailedIndexes"] <= job["completions"]
    for rule in job["podFailurePolicy"]["rules"]:
        assert len(set(rule) & {"onExitCodes", "onPodConditions"}) == 1
        codes = rule.get("onExitCodes", {"values": [1], "containerName": "train"})
        assert codes["values"] == sorted(set(codes["values"])) and 0 not in codes["values"]
        assert codes["containerName"] == container_of(found)["name"]
    mounts = {mount["name"] for mount in container_of(found)["volumeMounts"]}
    assert mounts == {volume["name"] for volume in job["template"]["spec"]["volumes"]}


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: check_label("My_Run", "--name"), r"RFC 1123\), got 'My_Run' .*Take 'my-run'"),
        (lambda: jobset_of(name="7b"), r"begins with a letter .*RFC 1035\), got '7b'"),
        (lambda: jobset_of(name="a" * 60), r"has 60 letters, and may have 47"),
        (lambda: jobset_of(namespace="A"), "--namespace"),
        (lambda: jobset_of(image=""), r"An image is needed, got '' \(--image"),
        (lambda: jobset_of(slices=2, topology="v6e:2x2"), "several hosts only"),
        (lambda: jobset_of(volumes={}), "workdir /runs/one would be lost .* mounted: none"),
        (lambda: jobset_of(volumes={"b": "/run"}), "mounted: /run "),
        (lambda: jobset_of(secrets={"A": "b"}), "A secret is VARIABLE=SECRET:KEY"),
        (lambda: jobset_of(secrets={"A-B": "b:c"}), "A variable's name .* got 'A-B'"),
        (
            lambda: jobset_of(variables={"HF_TOKEN": "x"}),
            "The value of HF_TOKEN looks like a secret",
        ),
        (lambda: jobset_of(image="r/i:hf_abcdefghijklmnopq"), "looks like a secret"),
        (lambda: jobset_of(command=[]), "The command is missing"),
        (lambda: jobset_of(command=["launch/bench.py"]), "Hosts run launch/train.py"),
        (lambda: jobset_of(command=TRAIN[:2]), "needs --workdir=VALUE"),
        (lambda: jobset_of(command=[*TRAIN, "--preflight"]), "leave it out"),
    ],
)
def test_bad_input_is_told_in_one_line(make, message):
    refused(make, message)
