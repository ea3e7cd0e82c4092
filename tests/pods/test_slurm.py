"""Batch scripts of Slurm: who is which process, and what is queued again."""

import subprocess

import pytest

from rljax.pods import slurm
from rljax.pods.restarts import RESTARTED
from rljax.processes.identity import identify
from rljax.processes.settings import Settings
from tests.pods.scripts import TRAIN, environment_after, executable, refused

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


@pytest.mark.parametrize(
    "make, message",
    [
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
    refused(make, message)
