import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bestiary.errors import SourceError
from bestiary.hub.card import Card, File, SourceSpec
from bestiary.hub.fetch import fetch
from bestiary.hub.settings import Settings
from bestiary.hub.sources.machine import MachineCaches, hub_cache, torch_checkpoints
from bestiary.hub.store import Store
from tests.wheels import TOKENIZER, WEIGHTS, build_wheel, file_of

ROOT = Path(__file__).parents[3]
MODEL = file_of("model.bin", WEIGHTS)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TORCH_HOME", "XDG_CACHE_HOME")


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that all libraries keep their caches in."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches"


def card_with(*sources: SourceSpec, files: tuple[File, ...] = (MODEL,)) -> Card:
    return Card(name="zoo", task="text-embedding", license="mit", files=files, sources=sources, checked="weights")


def put(path: Path, content: bytes = WEIGHTS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def asked(card: Card, store: Store, file: File = MODEL) -> tuple[Path, str]:
    source = MachineCaches(card)
    assert not source.remote
    with store.partial(file.sha256, file.size, file.name) as sink:
        path = source.obtain(file, sink)
    return path, source.label


def assert_not_found(card: Card, store: Store, file: File = MODEL) -> None:
    with pytest.raises(SourceError, match="none of the caches of this machine"):
        asked(card, store, file)


HUB = SourceSpec(kind="hf", address="zoo/tiny", revision=COMMIT)


def test_nothing_is_found_where_nothing_is(store: Store) -> None:
    assert_not_found(card_with(HUB, SourceSpec(kind="package", address="zoo-weights==1.0", sha256="0" * 64)), store)
    assert not store.home.exists()


def test_a_large_file_is_found_by_its_digest_in_any_repository(caches: Path, store: Store) -> None:
    assert MODEL.sha256
    blob = put(caches / "huggingface" / "hub" / "models--another--name" / "blobs" / MODEL.sha256)
    assert asked(card_with(), store) == (blob, "cache of huggingface_hub")


def test_a_small_file_is_found_by_its_name_in_the_cards_repository(caches: Path, store: Store) -> None:
    snapshots = caches / "huggingface" / "hub" / "models--zoo--tiny" / "snapshots"
    put(snapshots / ("0" * 40) / "model.bin")
    right = put(snapshots / COMMIT / "model.bin")
    assert asked(card_with(HUB), store) == (right, "cache of huggingface_hub")
    right.unlink()
    assert asked(card_with(HUB), store) == (snapshots / ("0" * 40) / "model.bin", "cache of huggingface_hub")
    assert_not_found(card_with(), store)


def test_a_checkpoint_of_torch_hub_is_found_by_the_name_at_its_source(caches: Path, store: Store) -> None:
    path = put(caches / "torch" / "hub" / "checkpoints" / "tiny-0aa007d2.pth")
    url = SourceSpec(kind="url", address="https://models.example/v1/", names={"model.bin": "weights/tiny-0aa007d2.pth"})
    assert asked(card_with(url), store) == (path, "cache of torch.hub")
    assert_not_found(card_with(), store)


def test_a_file_of_another_size_is_no_candidate(caches: Path, store: Store) -> None:
    put(caches / "torch" / "hub" / "checkpoints" / "model.bin", WEIGHTS[:-1])
    assert_not_found(card_with(), store)


def test_a_folder_or_a_dangling_link_is_no_candidate(caches: Path, store: Store) -> None:
    checkpoints = caches / "torch" / "hub" / "checkpoints"
    (checkpoints / "model.bin").mkdir(parents=True)
    assert_not_found(card_with(), store)
    (checkpoints / "model.bin").rmdir()
    (checkpoints / "model.bin").symlink_to(caches / "gone")
    assert_not_found(card_with(), store)


def test_a_file_that_no_card_pins_is_not_taken_by_its_name(caches: Path, store: Store) -> None:
    put(caches / "torch" / "hub" / "checkpoints" / "model.bin")
    assert_not_found(card_with(), store, File(name="model.bin", role="weights"))


def test_a_wrong_candidate_is_left_alone_and_the_next_source_is_asked(caches: Path, tmp_path: Path) -> None:
    wrong = put(caches / "torch" / "hub" / "checkpoints" / "model.bin", b"?" * len(WEIGHTS))
    put(tmp_path / "folder" / "model.bin")
    card = card_with(SourceSpec(kind="path", address=str(tmp_path / "folder")))
    fetched = fetch(card, Settings(home=tmp_path / "store"))
    assert fetched["model.bin"].path.read_bytes() == WEIGHTS
    assert wrong.read_bytes() == b"?" * len(WEIGHTS)
    assert not (tmp_path / "store" / "quarantine").exists()


def test_an_installed_distribution_is_used_as_it_lies(index: Path, tmp_path: Path, store: Store) -> None:
    wheel = build_wheel(index)
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), "zoo-weights==1.0"]
    subprocess.run(install, check=True, timeout=120)
    card = wheel.card(MODEL, names={"vocabulary.json": "tokenizer.json"})
    script = f"""
from pathlib import Path
from bestiary.hub.card import Card, File, SourceSpec
from bestiary.hub.fetch import fetch
from bestiary.hub.settings import Settings
card = {card!r}
for file in fetch(card, Settings(home=Path({str(store.home)!r})), offline=True).values():
    print(file.path, file.origin, sep="\\n")
"""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    path = site / "zoo_weights" / "model" / "model.bin"
    assert run.stdout.splitlines() == [str(path), "installed package zoo-weights==1.0"], run.stderr
    assert not list(store.home.glob("blobs/*"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where distributions are installed."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_only_that_very_version_counts(site: Path, store: Store, index: Path) -> None:
    card = build_wheel(index).card(MODEL)
    put(site / "zoo_weights" / "model" / "model.bin")
    put(site / "zoo_weights-1.0.1.dist-info" / "METADATA", b"Metadata-Version: 2.1\nName: zoo-weights\nVersion: 1.0.1\n")
    assert_not_found(card, store)
    put(site / "zoo_weights-1.0.dist-info" / "METADATA", b"Metadata-Version: 2.1\nName: Zoo_Weights\nVersion: 1.0\n")
    assert asked(card, store)[1] == "installed package zoo-weights==1.0"


def test_an_installation_that_was_broken_off_does_not_count(site: Path, store: Store, index: Path) -> None:
    card = build_wheel(index).card(MODEL)
    put(site / "zoo_weights" / "model" / "model.bin")
    (site / "zoo_weights-1.0.dist-info").mkdir()
    assert_not_found(card, store)


def test_the_name_in_the_wheel_is_the_name_below_the_installation(site: Path, store: Store, index: Path) -> None:
    file = file_of("vocabulary.json", TOKENIZER)
    card = build_wheel(index).card(file, names={"vocabulary.json": "tokenizer.json"})
    path = put(site / "zoo_weights" / "model" / "tokenizer.json", TOKENIZER)
    put(site / "zoo_weights-1.0.dist-info" / "METADATA", b"Metadata-Version: 2.1\nName: zoo-weights\nVersion: 1.0\n")
    assert asked(card, store, file)[0] == path


SETTINGS = [
    {},
    {"XDG_CACHE_HOME": "{}/xdg"},
    {"HF_HOME": "{}/hf", "TORCH_HOME": "{}/torch-home"},
    {"HF_HOME": "{}/hf", "HF_HUB_CACHE": "{}/hub"},
    {"HUGGINGFACE_HUB_CACHE": "{}/old"},
    {"HF_HOME": "~/hf", "TORCH_HOME": "~/torch-home"},
    {"HF_HOME": "$HOME/hf"},
]


WHAT_THEY_SAY = """
import importlib, json, os, sys
import torch.hub
from huggingface_hub import constants
for settings in json.loads(sys.argv[1]):
    os.environ.update(settings)
    importlib.reload(constants)
    print(json.dumps([constants.HF_HUB_CACHE, torch.hub.get_dir() + "/checkpoints"]))
    for name in settings:
        del os.environ[name]
"""


def test_folders_are_where_the_libraries_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    cases = [{name: value.format(tmp_path) for name, value in settings.items()} for settings in SETTINGS]
    command = [sys.executable, "-c", WHAT_THEY_SAY, json.dumps(cases)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == len(cases)
    for settings, answer in zip(cases, answers, strict=True):
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            assert [str(hub_cache()), str(torch_checkpoints())] == answer, settings


def test_no_library_is_imported() -> None:
    script = "import sys, bestiary.hub.sources.machine; print({'torch', 'timm', 'huggingface_hub', 'urllib3'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.strip() == "set()"
