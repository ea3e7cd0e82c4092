"""Who a process is: what each environment says, and what the config may add or contradict."""

import runpy
from pathlib import Path

import pytest

from rljax.processes import metadata
from rljax.processes.environments import first_host, host_and_port, tpu_env
from rljax.processes.identity import ALONE, check_alone, identify
from rljax.processes.settings import Settings

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_JOB_NODELIST": "gpu[001-009]",
    "SLURM_STEP_NODELIST": "gpu[003-006]",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}
GKE = {"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "w-0.job,w-1.job", "JAX_PLATFORMS": "tpu,cpu"}
SLICES = {
    **GKE,
    "MEGASCALE_NUM_SLICES": "3",
    "MEGASCALE_SLICE_ID": "2",
    "MEGASCALE_COORDINATOR_ADDRESS": "job-slice-0-0.job:8080",
}
JOBSET = {"JOBSET_NAME": "js", "REPLICATED_JOB_NAME": "worker", "JOB_COMPLETION_INDEX": "2"}
LAUNCHER = {
    "RLJAX_PROCESSES": "2",
    "RLJAX_PROCESS_ID": "1",
    "RLJAX_COORDINATOR": "127.0.0.1:9000",
}


@pytest.mark.parametrize(
    "environ, index, count, host, port",
    [
        (LAUNCHER, 1, 2, "127.0.0.1", 9000),
        (SLURM, 3, 4, "gpu003", 8476),
        ({**SLURM, **LAUNCHER}, 1, 2, "127.0.0.1", 9000),
        (OPEN_MPI, 1, 4, "10.96.0.1", 8476),
        (
            {**OPEN_MPI, "OMPI_MCA_orte_hnp_uri": "1.0;tcp6://[fe80::b9b,2620:10d::2]:43370"},
            *(1, 4, "fe80::b9b", 8476),
        ),
        (GKE, 1, 2, "w-0.job", 8476),
        (SLICES, 5, 6, "job-slice-0-0.job", 8476),
    ],
)
def test_environments(environ, index, count, host, port):
    found = identify(Settings(), environ)
    assert found[:4] == (index, count, host, port) and found.roll_call_port == port + 1


@pytest.mark.parametrize(
    "environ",
    [
        {},
        # A batch script of Slurm, which has not called srun.
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"},
        {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "localhost"},
        {**GKE, "JAX_PLATFORMS": "cpu"},
        {**SLURM, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
    ],
)
def test_one_process_is_alone(environ):
    assert identify(Settings(), environ) == ALONE


def test_the_config_says_alone_whatever_the_environment_says():
    assert identify(Settings(count=1), SLURM) == ALONE


def test_the_config_completes_the_environment():
    found = identify(Settings(count=4), JOBSET)
    assert found[:3] == (2, 4, "js-worker-0-0.js")
    found = identify(Settings(coordinator="10.0.0.7", port=9, roll_call_port=7), SLURM)
    assert found[:5] == (3, 4, "10.0.0.7", 9, 7)
    found = identify(Settings(count=2, id=0, coordinator="h"), {})
    assert found[:5] == (0, 2, "h", 8476, 8477)


def test_a_cloud_tpu_asks_its_metadata_server():
    attributes = {
        "agent-worker-number": "1",
        "worker-network-endpoints": "a:b:10.0.0.1,c:d:10.0.0.2",
        "tpu-env": "ZONE: 'z'\nMEGASCALE_NUM_SLICES: '2'\nMEGASCALE_SLICE_ID: '1'\n"
        "MEGASCALE_COORDINATOR_ADDRESS: '10.0.0.1:80'",
    }
    assert identify(Settings(), {}, attributes.get)[:3] == (3, 4, "10.0.0.1")
    del attributes["tpu-env"]
    assert identify(Settings(), {}, attributes.get)[:3] == (1, 2, "10.0.0.1")
    assert identify(Settings(), {"JAX_PLATFORMS": "cpu"}, attributes.get) == ALONE
    assert identify(Settings(), {"TPU_SKIP_MDS_QUERY": "1"}, attributes.get) == ALONE


@pytest.mark.parametrize(
    "settings, environ, message",
    [
        (dict(count=8), SLURM, r"processes.count=8 contradicts Slurm .* says 4"),
        (dict(id=0), SLURM, r"processes.id=0 contradicts Slurm .* says 3"),
        (dict(count=2), {}, r"say count=2, and not id, coordinator \(config.processes.id, "),
        (dict(count=2, id=1), {}, "not coordinator"),
        (dict(coordinator="h"), {}, "not count, id"),
        (dict(count=2, id=2, coordinator="h"), {}, r"id must be in 0..1, .* got 2"),
        (dict(count=1, id=1), {}, "count=1 is one process alone, and id=1"),
        (dict(), JOBSET, "not count"),
        (dict(count=4), {**JOBSET, "JOB_INDEX": "1"}, "job 1 of 'worker'"),
        (dict(), {**SLURM, "SLURM_PROCID": "x"}, "SLURM_PROCID must be a whole number .* got 'x'"),
        (dict(), {**SLURM, "SLURM_PROCID": "-1"}, "SLURM_PROCID must be a whole number"),
        (dict(), {"RLJAX_PROCESSES": "2"}, "not id, coordinator"),
        (dict(), {**LAUNCHER, "RLJAX_COORDINATOR": "h:p:q"}, "RLJAX_COORDINATOR must be HOST:PORT"),
        (dict(port=65_535), LAUNCHER, "Two different ports"),
        (dict(port=9, roll_call_port=9), LAUNCHER, "Two different ports"),
        (dict(), {**OPEN_MPI, "OMPI_MCA_orte_hnp_uri": ""}, "not coordinator"),
        (dict(), {**SLICES, "MEGASCALE_COORDINATOR_ADDRESS": ""}, "not coordinator"),
    ],
)
def test_what_contradicts_or_is_missing_is_one_line(settings, environ, message):
    with pytest.raises(ValueError, match=message) as caught:
        identify(Settings(**settings), environ)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "nodes, first",
    [
        ("node001", "node001"),
        ("node001,host2", "node001"),
        ("node[001-015],host2", "node001"),
        ("node[7,9-15]", "node7"),
        ("rack[2-3]n[05,07].site", "rack2n05.site"),
        ("host2,node[1-2]", "host2"),
    ],
)
def test_the_first_host_of_a_list_of_slurm(nodes, first):
    assert first_host(nodes) == first


def test_addresses():
    assert host_and_port("h:1", "X") == ("h", 1) and host_and_port("h", "X") == ("h", None)
    assert host_and_port("[fe80::1]:80", "X") == ("fe80::1", 80)
    assert tpu_env("A: 'x:y'\nnothing\n") == {"A": "x:y"}


def test_a_tpu_is_known_by_its_driver_and_its_maker(tmp_path):
    assert not metadata.has_tpu(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/accel0").touch()
    assert not metadata.has_tpu(tmp_path)
    device = tmp_path / "sys/bus/pci/devices/0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1ae0\n")
    assert metadata.has_tpu(tmp_path)


def test_a_command_of_one_process_is_not_started_twice():
    check_alone("launch/compare.py", {})
    check_alone("launch/compare.py", {**LAUNCHER, "RLJAX_PROCESSES": "1"})
    with pytest.raises(ValueError, match=r"launch/compare.py is one process, and 2 of it.*hosts"):
        check_alone("launch/compare.py", LAUNCHER)


@pytest.mark.parametrize(
    "words",
    [
        ("compare.py", "--task=sort", "--methods=grpo", "--workdir=none"),
        ("evaluate.py", "--checkpoint=none", "--config=none.py"),
        ("export.py", "--checkpoint=none", "--out=new"),
        ("generate.py", "--checkpoint=none", "--prompt=1"),
    ],
)
def test_commands_of_one_process(words, monkeypatch, capsys):
    for name, value in LAUNCHER.items():
        monkeypatch.setenv(name, value)
    folder = Path(__file__).parents[2] / "launch"
    main = runpy.run_path(str(folder / words[0]))["main"]
    assert main(list(words[1:])) == 1
    assert f"error: launch/{words[0]} is one process, and 2 of it" in capsys.readouterr().err
