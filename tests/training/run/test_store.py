"""Checkpoints in an object store: complete or not there, damaged ones set aside, one process."""

import json
import shutil
import threading
import time

import jax
import numpy as np
import optax
import pytest

from rljax.training.run import storage, store
from rljax.training.run.checkpoints import SOURCE, Checkpoints, Judged, skip_damaged
from rljax.training.run.digests import damage
from rljax.training.run.storage import absolute, check_folder, files_under, saved_steps
from rljax.training.run.store import Copy, fetch, held
from rljax.training.update.state import abstract_state, create_state, state_shardings
from tests.training.fake_store import fake_store

pytestmark = pytest.mark.contract

OPTIMIZER = optax.adam(1e-3)
RUN = "gs://bucket/run"


@pytest.fixture
def bucket(tmp_path):
    """The folder behind gs://bucket."""
    with fake_store(tmp_path / "store"):
        yield tmp_path / "store" / "bucket"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(store, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(store, "DEAD_SECONDS", 0.3)


@pytest.fixture(scope="module")
def made(tiny_network, one_device):
    """A state, and the shapes into which it is restored."""
    network = tiny_network()
    shardings = state_shardings(network, OPTIMIZER, one_device)
    params = network.init(jax.random.key(0), one_device)
    state = create_state(params, OPTIMIZER, shardings)
    return state, abstract_state(network, OPTIMIZER, shardings)


def save(made, *steps, keep=2, judged=None):
    checkpoints = Checkpoints(absolute(f"{RUN}/grpo"), keep=keep)
    for step in steps:
        source = {"taken": np.int64(step)}
        checkpoints.save(step, made[0], {"step": step}, (judged or {}).get(step), source)
    checkpoints.close()


def test_a_state_comes_back_and_the_latest_and_the_best_are_kept(bucket, made):
    save(made, 1, 2, 3, 4, judged={1: 0.5, 2: 0.9, 3: 0.1, 4: 0.2})
    assert not list(bucket.parent.rglob("*tmp*"))
    checkpoints = Checkpoints(absolute(f"{RUN}/grpo"), keep=2)
    assert checkpoints.steps() == [2, 3, 4] == saved_steps(checkpoints.folder)
    assert checkpoints.best() == Judged(0.9, 2)
    restored, note = checkpoints.restore(4, made[1])
    assert note == {"step": 4} == checkpoints.note(4)
    assert checkpoints.source_state(4, {"taken": np.int64(0)}) == {"taken": 4}
    checkpoints.close()
    pairs = zip(jax.tree.leaves(made[0]), jax.tree.leaves(restored), strict=True)
    assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def test_what_has_no_commit_file_was_never_finished(bucket, made):
    """A process that dies while it writes leaves objects under the checkpoint's final name."""
    save(made, 1, 2)
    (bucket / "run/grpo/2/commit_success.txt").unlink()
    (bucket / "run/grpo/2/digests.json").unlink()
    folder = absolute(f"{RUN}/grpo")
    assert saved_steps(folder) == [1] and skip_damaged(folder, folder / "aside") == []
    checkpoints = Checkpoints(folder, keep=2)
    assert checkpoints.latest() == 1
    checkpoints.save(2, made[0], {}, None)
    checkpoints.close()
    assert saved_steps(folder) == [1, 2] and not damage(folder / "2")


def test_a_damaged_checkpoint_is_set_aside(bucket, made):
    save(made, 1, 2)
    path = next(path for path in (bucket / f"run/grpo/2/{SOURCE}/d").iterdir())
    content = path.read_bytes()
    path.write_bytes(content[:9] + bytes([content[9] ^ 16]) + content[10:])
    folder, aside = absolute(f"{RUN}/grpo"), absolute(f"{RUN}/.damaged")
    (line,) = skip_damaged(folder, aside)
    assert "another content" in line and "goes on from step 1" in line
    assert saved_steps(folder) == [1]
    assert (bucket / "run/.damaged/grpo/2/state/_METADATA").exists()


def test_a_lost_workdir_is_filled_again(bucket, tmp_path):
    workdir = tmp_path / "w"
    for name in ("config.json", "run.json", "rollouts/a-1.json", "checkpoints/x", "lock", ".x"):
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_text(name)
    (workdir / "metrics.jsonl").write_text("{}\n")
    copy = Copy(workdir, RUN)
    copy.renew()
    (workdir / "metrics.jsonl").write_text("{}\n{}\n")
    copy.renew()
    expected = {"config.json", "run.json", "rollouts/a-1.json", "metrics.jsonl"}
    assert set(files_under(absolute(f"{RUN}/.workdir"))) == expected
    shutil.rmtree(workdir)
    workdir.mkdir()
    (line,) = fetch(absolute(RUN), workdir)
    assert "was filled with the 4 files" in line
    assert set(files_under(workdir)) == expected
    assert (workdir / "metrics.jsonl").read_text() == "{}\n{}\n"
    (workdir / "metrics.jsonl").write_text("newer")
    assert fetch(absolute(RUN), workdir) == []
    assert (workdir / "metrics.jsonl").read_text() == "newer"


def test_a_fill_that_was_cut_off_is_done_again(bucket, tmp_path, monkeypatch):
    workdir = tmp_path / "w"
    workdir.mkdir()
    for name in ("config.json", "metrics.jsonl", "run.json"):
        (workdir / name).write_text(name)
    Copy(workdir, RUN).renew()
    shutil.rmtree(workdir)
    workdir.mkdir()

    def dies(source, target):
        if target.name == "config.json":
            raise KeyboardInterrupt
        storage.copy(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store, "copy", dies)
        fetch(absolute(RUN), workdir)
    assert fetch(absolute(RUN), workdir)
    assert (workdir / "config.json").read_text() == "config.json"


def test_without_a_store_nothing_is_copied(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    Copy(tmp_path, "").renew()
    with held(tmp_path, "") as lines:
        assert lines == []


def test_one_process_at_a_time(bucket, quick, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "DEAD_SECONDS", 60.0)  # it need not wait: a living one is seen
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with held(tmp_path / "one", RUN):
        path = bucket / "run/lock"
        first = json.loads(path.read_text())
        with pytest.raises(ValueError, match=r"gs://bucket/run is in use by process \d+ on"):
            # Of this host, but alive; the number of another process would do.
            path.write_text(json.dumps({**first, "host": "elsewhere"}))
            beating = threading.Event()
            beat = threading.Thread(
                target=store._beat, args=(absolute(f"{RUN}/lock"), first, beating), daemon=True
            )
            beat.start()
            try:
                with held(tmp_path / "two", RUN):
                    pass
            finally:
                beating.set()
                beat.join()
    assert not path.exists()


@pytest.mark.parametrize("host", ["here", "elsewhere"])
def test_the_lock_of_a_dead_process_is_taken(bucket, quick, tmp_path, host):
    """On this host at once; of another host when it was not renewed for some time."""
    about = {"id": "x", "host": host, "pid": 2**22 + 1, "started": "then", "count": 3}
    if host == "here":
        about["host"] = store.socket.gethostname()
    absolute(f"{RUN}/lock").write_text(json.dumps(about))
    (tmp_path / "w").mkdir()
    started = time.monotonic()
    with held(tmp_path / "w", RUN):
        assert (time.monotonic() - started > 0.3) == (host == "elsewhere")
        assert json.loads((bucket / "run/lock").read_text())["id"] != "x"


@pytest.mark.parametrize(
    "folder, said",
    [
        ("s3://bucket/run", "is no place for checkpoints; allowed are gs://BUCKET/PATH"),
        ("/tmp/elsewhere", "is no place for checkpoints"),
        ("gs://bucket/r*n", r"has \* in it"),
    ],
)
def test_other_places_are_refused(bucket, folder, said):
    with pytest.raises(ValueError, match=f"{said}.*config.checkpoint.folder"):
        check_folder(folder)
    check_folder("")
    check_folder(RUN)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(storage, "missing_clients", lambda: ["gcsfs"])
    with pytest.raises(
        ValueError, match=r"needs gcsfs, not installed here: pip install -e '.\[gcs\]'"
    ):
        check_folder(RUN)
