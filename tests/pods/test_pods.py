"""Runs on pods: rendered texts are what their readers take, and tell each process who it is."""

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rljax.commands.statuses import Status
from rljax.pods import jobset, slurm
from rljax.pods.hosts import SshSettings, TpuVmSettings, ssh_steps, tpu_vm_steps
from rljax.pods.machines import GENERATIONS, read_slice
from rljax.pods.names import check_label
from rljax.pods.restarts import RESTARTED, retries_for
from rljax.pods.secrets import check_variables, check_words
from rljax.pods.steps import Command, Step, as_shell, run_steps
from rljax.pods.xpk import XpkSettings, xpk_steps
from rljax.processes.identity import ALONE, identify
from rljax.processes.settings import Settings

ROOT = Path(__file__).parents[2]
TRAIN = ["launch/train.py", "--config=configs/quickstart.py", "--workdir=/runs/one"]
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


def environment_after(script, environ, tmp_path):
    """The calls of Python in a script: the words of each, and the environment of the last."""
    calls = tmp_path / "calls"
    fake = executable(
        tmp_path / "bin/python",
        f'printf "%s\\n" "$*" >> {calls}\nenv -0 > {tmp_path}/environ\nexit ${{FAIL:-0}}',
    )
    executable(tmp_path / "bin/python3", f'exec {fake} "$@"')
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    calls.unlink(missing_ok=True)
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": path, **environ}, capture_output=True, cwd=tmp_path
    )
    said = calls.read_text().splitlines() if calls.exists() else []
    raw = (tmp_path / "environ").read_text() if said else ""
    found = dict(line.split("=", 1) for line in raw.split("\0") if line)
    return said, found, done


def executable(path, body):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


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


def test_a_host_without_its_secret_runs_nothing(tmp_path):
    (step,) = ssh_steps(TRAIN, SshSettings(["a"], directory=str(tmp_path), secrets=["KEY"]))
    script = step.commands[0].words[-1]
    said, _, done = environment_after(script, {}, tmp_path)
    assert not said and done.returncode and b"KEY" in done.stderr
    said, inside, _ = environment_after(script, {"KEY": "x"}, tmp_path)
    assert len(said) == 2 and identify(Settings(), inside) == ALONE


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


SLURM = slurm.SlurmSettings(nodes=4, gpus=8, directory=".", logs="/logs", time="1-00:00:00")


def test_processes_of_slurm(tmp_path):
    text = slurm.render_job("grpo", TRAIN, SLURM)
    executable(
        tmp_path / "bin/srun",
        'while [ "$1" != /bin/sh ]; do shift; done\n'
        "for SLURM_PROCID in 0 1 2 3; do export SLURM_PROCID\n"
        'SLURM_STEP_NUM_TASKS=4 SLURM_STEP_NODELIST="gpu[07-10]" "$@" || exit\n'
        f'cp "{tmp_path}/environ" "{tmp_path}/environ.$SLURM_PROCID"\ndone',
    )
    said, _, done = environment_after(f"bash -c '{quoted(text)}'", {}, tmp_path)
    assert done.returncode == 0 and len(said) == 8
    for index in range(4):
        raw = (tmp_path / f"environ.{index}").read_text()
        inside = dict(line.split("=", 1) for line in raw.split("\0") if line)
        assert identify(Settings(), inside)[:4] == (index, 4, "gpu07", 8476)


def quoted(text):
    return text.replace("'", "'\"'\"'")


@pytest.mark.parametrize("status", [0, 1, 2, 70, 75, 127, 130, 134, 137, 143])
@pytest.mark.parametrize("before", ["0", "50"])
def test_slurm_queues_a_job_again_after_failures_of_machines_only(status, before, tmp_path):
    text = slurm.render_job("grpo", TRAIN, SLURM)
    executable(tmp_path / "bin/srun", f"exit {status}")
    executable(tmp_path / "bin/scontrol", f'echo "$*" > {tmp_path}/queued')
    environ = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    environ["SLURM_RESTART_COUNT"] = before
    done = subprocess.run(["bash"], input=text.encode(), env=environ, capture_output=True)
    assert done.returncode == status
    again = status in RESTARTED and before == "0"
    assert (tmp_path / "queued").exists() == again
    assert not again or (tmp_path / "queued").read_text() == "requeue 7\n"


def test_lines_of_a_batch_script_stand_before_its_commands():
    lines = slurm.render_job("grpo", TRAIN, SLURM).splitlines()
    options = [line for line in lines if line.startswith("#SBATCH")]
    assert lines[0] == "#!/bin/bash" and lines[1 : 1 + len(options)] == options
    for option in ("nodes=4", "gpus-per-node=8", "requeue", "time=1-00:00:00", "signal=TERM@300"):
        assert f"#SBATCH --{option}" in options


def test_hosts_of_a_list_are_numbered_in_its_order(tmp_path):
    settings = SshSettings(["me@h0", "me@h1", "h2"], directory=str(tmp_path))
    (step,) = ssh_steps(TRAIN, settings)
    for index, command in enumerate(step.commands):
        assert command.words[0] == "ssh" and command.host == f"h{index}"
        said, inside, _ = environment_after(command.words[-1], {}, tmp_path)
        assert identify(Settings(), inside)[:5] == (index, 3, "h0", 8476, 8477)
        assert len(said) == 2 and said[0] == f"{said[1]} --preflight"


def test_a_slice_of_tpu_vms_runs_one_command_on_all_workers():
    settings = TpuVmSettings(read_slice("v5p:4x4x4"), zone="z", steps=("train",), logs="here")
    (step,) = tpu_vm_steps("pod", TRAIN, settings)
    words = step.commands[0].words
    assert words[:5] == ("gcloud", "compute", "tpus", "tpu-vm", "ssh")
    assert {"pod", "--worker=all", "--zone=z", "--output-directory=here"} <= set(words)
    assert "RLJAX_" not in " ".join(words)  # its metadata server numbers the workers


def test_steps_come_in_their_order_and_name_the_machines():
    steps = ("delete", "train", "fetch", "create", "copy", "install")
    settings = TpuVmSettings(read_slice("v6e:2x4"), steps=steps, version="v", spot=True)
    made = tpu_vm_steps("vm", TRAIN, settings)
    verbs = ["create", "ssh", "ssh", "ssh", "scp", "delete"]
    assert [re.search(r"tpu-vm (\w+)", " ".join(s.commands[0].words))[1] for s in made] == verbs
    assert {"--accelerator-type=v6e-8", "--spot"} <= set(made[0].commands[0].words)
    assert "connect_seconds" not in as_shell(made)  # one process waits for none


def test_xpk_takes_the_same_script(tmp_path):
    settings = XpkSettings(
        read_slice("v5e:8x8"), "image", "cluster", slices=2, directory=str(tmp_path)
    )
    (step,) = xpk_steps("grpo", TRAIN, settings)
    flags = dict(word[2:].split("=", 1) for word in step.commands[0].words if "=" in word)
    assert flags["tpu-type"] == "v5litepod-64" and flags["num-slices"] == "2"
    assert flags["restart-on-exit-codes"] == "75"
    environ = {
        "TPU_WORKER_ID": "3",
        "TPU_WORKER_HOSTNAMES": ",".join(f"w{i}" for i in range(16)),
        "MEGASCALE_NUM_SLICES": "2",
        "MEGASCALE_SLICE_ID": "1",
        "MEGASCALE_COORDINATOR_ADDRESS": "w0:8080",
    }
    said, inside, _ = environment_after(flags["command"], environ, tmp_path)
    assert identify(Settings(), inside)[:4] == (19, 32, "w0", 8476) and len(said) == 2


@pytest.mark.parametrize(
    "text, machine, hosts, chips, accelerator_type",
    [
        ("v5e:8x8", "", 16, 4, "v5litepod-64"),
        ("v6e:2x4", "", 1, 8, "v6e-8"),
        ("v6e:2x4", "ct6e-standard-4t", 2, 4, "v6e-8"),
        ("v5p:4x4x4", "", 16, 4, "v5p-128"),
        ("v4:2x2x1", "", 1, 4, "v4-8"),
    ],
)
def test_slices(text, machine, hosts, chips, accelerator_type):
    found = read_slice(text, machine)
    assert (found.hosts, found.chips_per_host) == (hosts, chips)
    assert found.accelerator_type == accelerator_type


def test_hosts_of_every_slice_are_whole():
    for generation, of in GENERATIONS.items():
        for chips, topologies in of.hosts.items():
            for topology in topologies:
                found = read_slice(f"{generation}:{topology}")
                assert (
                    found.hosts * found.chips_per_host == found.chips and found.chips % chips == 0
                )


BIG = "v6e:4x8"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: read_slice("v6:4x4"), r"generation 'v6'; .*Did you mean 'v4'|'v6e'"),
        (lambda: read_slice("v5e:4x6"), "v5e has no slice '4x6' .*Nearest: (4x4|4x8), (4x4|4x8)"),
        (lambda: read_slice("v5p:3x3x3"), "Nearest: 2x4x4, "),
        (lambda: read_slice("v5p"), "GENERATION:TOPOLOGY .* got 'v5p'"),
        (lambda: read_slice("v5e:ax0"), "no slice 'ax0'"),
        (lambda: read_slice("v6e:8x8", "ct6e-standard-8t"), "8t has no slice '8x8' .*Nearest: 2x4"),
        (lambda: read_slice("v6e:8x8", "ct5p-hightpu-4t"), "a machine of v5p, and v6e:8x8 is of"),
        (lambda: read_slice("v6e:8x8", "ct6e-standard-4"), "Did you mean 'ct6e-standard-4t'"),
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
        (
            lambda: ssh_steps(TRAIN, SshSettings(["a", "b"], read_slice(BIG))),
            "has 8 hosts .* and 2 ",
        ),
        (lambda: ssh_steps(TRAIN, SshSettings(["a", "x@a"])), "a is named twice"),
        (lambda: ssh_steps(TRAIN, SshSettings(["-oProxyCommand=x"])), "A host is"),
        (
            lambda: tpu_vm_steps("a", TRAIN, TpuVmSettings(read_slice(BIG), steps=("crate",))),
            "create",
        ),
        (
            lambda: tpu_vm_steps("a", TRAIN, TpuVmSettings(read_slice(BIG), steps=("create",))),
            "--version=NAME",
        ),
        (lambda: xpk_steps("a" * 41, TRAIN, XpkSettings(read_slice(BIG), "i", "c")), "may have 40"),
        (lambda: slurm.render_job("a b", TRAIN, SLURM), "Take 'a-b'"),
        (
            lambda: slurm.render_job("a", TRAIN, slurm.SlurmSettings(1, 8, ".", "/l", time="soon")),
            "A time is .* got 'soon'",
        ),
        (
            lambda: slurm.render_job("a", TRAIN, slurm.SlurmSettings(1, 8, ".", "/a b")),
            "cannot hold '/a b'",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


SECRETS = [
    *("hf_AbCdEfGhIjKlMnOpQrSt", "ghp_abcdefghijklmnop1234", "sk-proj-abcdefghijklmnop"),
    *("AKIAABCDEFGHIJKLMNOP", "-----BEGIN RSA PRIVATE KEY-----", "https://me:pass@host/x"),
]


@pytest.mark.parametrize("value", SECRETS)
def test_what_looks_like_a_key_is_refused_and_not_repeated(value):
    for call in (
        lambda: check_variables({"X": value}, "--env"),
        lambda: check_words([f"--config.name={value}"], "--"),
        lambda: check_words([value], "--"),
    ):
        with pytest.raises(ValueError, match="looks like a secret") as error:
            call()
        assert value not in str(error.value)


def test_what_is_no_key_is_taken():
    check_words(["--config.stop_token=</s>", "--config.max_tokens=512", "gs://a/b"], "--")
    check_variables({"XLA_FLAGS": "--a=1", "API_KEY_FILE": "/x", "HF_TOKEN": "/run/token"}, "--env")


def test_steps_run_side_by_side_and_keep_the_lines_of_each(tmp_path, capsys):
    words = ("/bin/sh", "-c")
    beside = (
        Command((*words, "echo one; exit 75"), host="a"),
        Command((*words, "cat; exit 255"), host="b", text="two\n"),
    )
    first = Step("first", (Command((*words, "echo zero")),))
    assert run_steps([first, Step("both", beside), first], tmp_path / "logs") == 75
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "zero" and sorted(out[1:]) == ["[a] one", "[b] two"]
    assert (tmp_path / "logs/b.log").read_text() == "two\n"
    with pytest.raises(ValueError, match="no-such-program is not installed here"):
        run_steps([Step("x", (Command(("no-such-program",)),))], tmp_path)


def test_a_dry_run_is_a_script_that_does_the_same(tmp_path):
    steps = [Step("one", (Command(("cat",), text="it's $x\n"), Command(("echo", "a b"))))]
    done = subprocess.run(["sh"], input=as_shell(steps).encode(), capture_output=True)
    assert sorted(done.stdout.decode().splitlines()) == ["a b", "it's $x"]


def pod(*words, **given):
    command = [sys.executable, str(ROOT / "launch/pod.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **given)


def test_the_command_shows_and_does_nothing_unless_told_to(tmp_path):
    file = tmp_path / "job.yaml"
    common = ("--topology=v6e:4x8", "--image=i", "--volume=runs:/runs", f"--out={file}")
    done = pod("jobset", *common, "--", *TRAIN)
    assert done.returncode == 0 and yaml.safe_load(done.stdout)["kind"] == "JobSet"
    assert file.read_text() == done.stdout
    executable(tmp_path / "bin/kubectl", f'echo "$*"; cat > {tmp_path}/given')
    environ = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    done = pod("jobset", *common, f"--logs={tmp_path}/logs", "--run", "--", *TRAIN, env=environ)
    assert done.returncode == 0 and "create -f -" in done.stdout
    assert (tmp_path / "given").read_text() == file.read_text()


@pytest.mark.parametrize(
    "words, message",
    [
        (["jobsett"], "Unknown kind 'jobsett'.*Did you mean 'jobset'"),
        (["slurm", "--image=x"], "slurm has no --image; it takes "),
        (["vm", "--topology=v6e:4x8"], "has 8 hosts, and vm is one"),
        (["slice"], "slice needs a slice"),
        (["ssh"], "ssh needs the hosts"),
        (["slurm", "--nodes=2"], "slurm needs --gpus"),
        (["jobset", "--topology=v6e:4x8", "--env=A=1", "--env=A=2"], "A is given twice"),
        (["jobset", "--env=A"], "must be NAME=VALUE"),
    ],
)
def test_wrong_words(words, message, capsys):
    import importlib.util

    spec = importlib.util.spec_from_file_location("pod", ROOT / "launch/pod.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main([*words, "--", *TRAIN]) == 1
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.slow
def test_two_hosts_run_the_preflight_and_the_training(tmp_path):
    """Two hosts that are this machine: ssh is replaced, all else is real."""
    executable(tmp_path / "bin/ssh", 'for last; do :; done\nexec /bin/sh -c "$last"')
    environ = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    train = ["launch/train.py", "--config=configs/quickstart.py:smoke", f"--workdir={tmp_path}/run"]
    done = pod(
        *("ssh", "--hosts=127.0.0.1,localhost", f"--directory={ROOT}", "--run"),
        *(f"--python={sys.executable}", f"--logs={tmp_path}/logs", "--", *train),
        env=environ,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "the preflight is passed" in (tmp_path / "logs/127.0.0.1.log").read_text()
    assert (tmp_path / "run/summary.json").exists()
