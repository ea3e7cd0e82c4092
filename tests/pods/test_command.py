"""launch/pod.py: shows what it would do, and does it with --run."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
import yaml

from tests.pods.scripts import ROOT, TRAIN, executable
from tests.training.tiny_config import DATA, write_data


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
    # A device for each; what is compiled is not what takes time here.
    environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    environ[DATA] = str(tmp_path)
    write_data(tmp_path)
    config = f"--config={ROOT / 'tests/training/tiny_config.py'}:reinforce"
    short = ("--config.reinforce.steps=1", "--config.evaluation.every_steps=0")
    train = ["launch/train.py", config, *short, f"--workdir={tmp_path}/run"]
    done = pod(
        *("ssh", "--hosts=127.0.0.1,localhost", f"--directory={ROOT}", "--run"),
        *(f"--python={sys.executable}", f"--logs={tmp_path}/logs", "--", *train),
        env=environ,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "the preflight is passed" in (tmp_path / "logs/127.0.0.1.log").read_text()
    assert (tmp_path / "run/summary.json").exists()
