"""What came first is what has to come again, whoever else writes at the same time."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bestiary
from bestiary.errors import CardError, InputError, IntegrityError
from bestiary.hub.lock import Lock, Pin, tomllib

ONE, TWO = Pin(10, "1" * 64), Pin(20, "2" * 64)


def test_nothing_is_pinned_at_first(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "bestiary.lock")
    assert lock.pins("cat", "main") == {}
    assert os.listdir(tmp_path) == []


def test_what_came_is_the_pin(tmp_path: Path) -> None:
    path = tmp_path / "bestiary.lock"
    Lock(path).record("cat", "main", {"model.safetensors": ONE, "unet/ü 😀.json": TWO})
    Lock(path).record("dog", "v1", {"model.safetensors": TWO})
    Lock(path).record("cat", "other", {"model.safetensors": TWO})
    lock = Lock(str(path))
    assert lock.pins("cat", "main") == {"model.safetensors": ONE, "unet/ü 😀.json": TWO}
    assert lock.pins("cat", "other") == lock.pins("dog", "v1") == {"model.safetensors": TWO}
    assert lock.pins("dog", "main") == {}
    assert os.listdir(tmp_path) == ["bestiary.lock"]


def test_the_file_is_toml_for_people_to_review(tmp_path: Path) -> None:
    path = tmp_path / "bestiary.lock"
    Lock(path).record("dog", "v1", {"b": TWO, "a": ONE})
    Lock(path).record("cat", "main", {"a": ONE})
    written = path.read_text("utf-8")
    pin = {"size": 10, "sha256": "1" * 64}
    assert tomllib.loads(written) == {"schema": 1, "model": [
        {"name": "cat", "revision": "main", "files": {"a": pin}},
        {"name": "dog", "revision": "v1", "files": {"a": pin, "b": {"size": 20, "sha256": "2" * 64}}},
    ]}
    Lock(path).record("dog", "v1", {"a": ONE})
    assert path.read_text("utf-8") == written   # the order of recording leaves no trace in a diff


def test_more_files_of_a_model_join_the_others(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "bestiary.lock")
    lock.record("cat", "main", {"a": ONE})
    lock.record("cat", "main", {"b": TWO, "a": ONE})
    assert lock.pins("cat", "main") == {"a": ONE, "b": TWO}


def test_a_pin_never_changes(tmp_path: Path) -> None:
    path = tmp_path / "bestiary.lock"
    Lock(path).record("cat", "main", {"a": ONE})
    before = path.read_bytes()
    with pytest.raises(IntegrityError, match=r"cat: a is pinned to sha256 1{64}, but 2{64} came\n") as caught:
        Lock(path).record("cat", "main", {"b": TWO, "a": TWO})
    assert len(str(caught.value).splitlines()) <= 3
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["bestiary.lock"]


MODEL = b"schema = 1\n[[model]]\nname = 'cat'\nrevision = 'main'\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"schema = ", "not a lock file"),
        (b"\xff", "not a lock file"),
        (b"", "schema: missing"),
        (b"schema = 2", "schema: 2 cannot be used\nexpected: 1, or a newer Bestiary"),
        (b"schema = 1\nmodels = []", "models: no such key"),
        (b"schema = 1\nmodel = 1", "model: 1 cannot be used"),
        (MODEL, r"model\[0\]\.files: missing"),
        (MODEL + b"files = {a = {size = 1}}", r"files\.a\.sha256: missing"),
        (MODEL + b"files = {a = {size = 1, sha256 = ''}}", "sha256: '' cannot be used"),
        (MODEL + b"files = {a = {size = -1, sha256 = ''}}", "cannot be used"),
    ],
)
def test_a_malformed_lock_file_pins_nothing_away(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "bestiary.lock"
    path.write_bytes(content)
    with pytest.raises(CardError, match=rf"bestiary\.lock: .*{problem}"):
        Lock(path).pins("cat", "main")
    with pytest.raises(CardError):
        Lock(path).record("cat", "main", {"a": ONE})
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["bestiary.lock"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone/bestiary\.lock: the lock file cannot be written: No such file"):
        Lock(tmp_path / "gone" / "bestiary.lock").record("cat", "main", {"a": ONE})


def test_a_draft_that_a_killed_process_left(tmp_path: Path) -> None:
    path = tmp_path / "bestiary.lock"
    Lock(path).record("cat", "main", {"a": ONE})
    draft = tmp_path / "bestiary.lock.new"
    draft.write_text("schema = ")
    long_ago = time.time() - 3600
    os.utime(draft, (long_ago, long_ago))
    assert Lock(path).pins("cat", "main") == {"a": ONE}
    Lock(path).record("dog", "main", {"b": TWO})
    assert (Lock(path).pins("cat", "main"), Lock(path).pins("dog", "main")) == ({"a": ONE}, {"b": TWO})
    assert os.listdir(tmp_path) == ["bestiary.lock"]


def test_several_processes_lose_no_pin(tmp_path: Path) -> None:
    code = (
        "import sys; from bestiary.hub.lock import Lock, Pin\n"
        "for i in range(20): Lock('bestiary.lock').record(sys.argv[1], str(i), {'a': Pin(i + 1, '0' * 64)})"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(bestiary.__file__).parent.parent)}
    names = ["cat", "dog", "owl", "emu"]
    writers = [subprocess.Popen([sys.executable, "-c", code, name], cwd=tmp_path, env=environment) for name in names]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0, 0]
    lock = Lock(tmp_path / "bestiary.lock")
    assert all(lock.pins(name, str(i)) == {"a": Pin(i + 1, "0" * 64)} for name in names for i in range(20))
    assert os.listdir(tmp_path) == ["bestiary.lock"]
