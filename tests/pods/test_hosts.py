"""Hosts of a list by ssh, and TPU VMs by gcloud."""

import re

import pytest

from rljax.pods.hosts import SshSettings, TpuVmSettings, ssh_steps, tpu_vm_steps
from rljax.pods.machines import read_slice
from rljax.pods.steps import as_shell
from rljax.processes.identity import ALONE, identify
from rljax.processes.settings import Settings
from tests.pods.scripts import TRAIN, environment_after, refused

BIG = "v6e:4x8"


def test_a_host_without_its_secret_runs_nothing(tmp_path):
    (step,) = ssh_steps(TRAIN, SshSettings(["a"], directory=str(tmp_path), secrets=["KEY"]))
    script = step.commands[0].words[-1]
    said, _, done = environment_after(script, {}, tmp_path)
    assert not said and done.returncode and b"KEY" in done.stderr
    said, inside, _ = environment_after(script, {"KEY": "x"}, tmp_path)
    assert len(said) == 2 and identify(Settings(), inside) == ALONE


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


@pytest.mark.parametrize(
    "make, message",
    [
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
    ],
)
def test_bad_input_is_told_in_one_line(make, message):
    refused(make, message)
