"""The registry is what lies in the folders: shipped, set, and brought by installed packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bestiary
from bestiary.errors import CardError, InputError, UnknownModel
from bestiary.hub.registry import LONGEST_ANCESTRY, Registry
from bestiary.hub.settings import Settings

DIGEST = "0123456789abcdef" * 4


def write(folder: Path, stem: str, part: str = "", *, text: str = "", files: str = "", licence: str = "mit") -> Path:
    """A card in `folder`; `part` are lines of its `bestiary` part, in place of those of the same key."""
    name, _, version = stem.partition("@")
    lines = {
        "name": name, "version": version or "1", "task": "text-embedding", "architecture": "bert", "layout": "transformers",
        "files": files or f"{{model.safetensors: {{size: 1, sha256: {DIGEST}, role: weights}}}}",
        "sources": "[{path: .}]", "checked": "weights",
    }
    lines.update(line.split(": ", 1) for line in part.splitlines())
    body = "".join(f"  {key}: {value}\n" for key, value in lines.items() if value)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.md"
    path.write_text(f"---\nlicense: {licence}\nbestiary:\n{body}---\n{text}\n", "utf-8")
    return path


def test_shipped_cards_are_there() -> None:
    registry = Registry.standard(Settings.read({}))
    assert {"efficientnet-lite0", "minilm-l6-v2"} <= set(registry.names())
    assert registry.card("minilm-l6-v2").task == "text-embedding"
    assert [card.name for card in registry.cards()] == registry.names()


def test_names_are_those_of_the_files_and_no_card_is_read(tmp_path: Path) -> None:
    for name in ("b.md", "a.md", "a@1.md", "README.md", "notes.txt", ".hidden.md", "a.md~"):
        (tmp_path / name).write_text("not a card")
    (tmp_path / "folder.md").mkdir()
    assert Registry([tmp_path]).names() == ["a", "b"]


def test_one_broken_card_leaves_the_others_alone(tmp_path: Path) -> None:
    write(tmp_path, "good")
    (tmp_path / "broken.md").write_text("not a card")
    registry = Registry([tmp_path])
    assert registry.card("good").name == "good"
    with pytest.raises(CardError, match="broken"):
        registry.card("broken")


def test_an_unknown_name_lists_the_nearest(tmp_path: Path) -> None:
    for name in ("minilm-l6-v2", "minilm-l12-v2", "efficientnet-lite0"):
        write(tmp_path, name)
    with pytest.raises(UnknownModel) as caught:
        Registry([tmp_path]).card("MiniLM-L6")
    assert str(caught.value).splitlines() == [
        "no model is called 'MiniLM-L6'", "nearest: minilm-l6-v2, minilm-l12-v2", "`bestiary ls` lists all",
    ]


@pytest.mark.parametrize("name", ["", "@", "@1", "../good", "/etc/passwd", "good.md", "x" * 100_000, "\x1b[31m", "go\nod"])
def test_no_name_leads_out_of_the_folders(tmp_path: Path, name: str) -> None:
    write(tmp_path, "good")
    (tmp_path / "inner").mkdir()
    with pytest.raises(UnknownModel) as caught:
        Registry([tmp_path / "inner"]).card(name)
    assert len(str(caught.value).splitlines()) <= 3
    assert "\x1b" not in str(caught.value)


def test_versions(tmp_path: Path) -> None:
    write(tmp_path, "cat", "version: 3")
    write(tmp_path, "cat@1")
    write(tmp_path, "dog@1")
    registry = Registry([tmp_path])
    assert registry.names() == ["cat"]
    assert [registry.card(name).version for name in ("cat", "cat@3", "cat@1")] == [3, 3, 1]
    assert registry.card("dog@1").name == "dog"
    for name in ("cat@2", "cat@latest", "cat@", "cat@1@1", "dog"):
        with pytest.raises(UnknownModel):
            registry.card(name)


def test_a_card_bears_the_name_and_version_of_its_file(tmp_path: Path) -> None:
    write(tmp_path, "cat", "name: dog")
    write(tmp_path, "cat@1", "version: 2")
    with pytest.raises(CardError, match=r"bestiary\.name: 'dog' is not the name of the file\nexpected: cat"):
        Registry([tmp_path]).card("cat")
    with pytest.raises(CardError, match=r"bestiary\.version: 2 is not the version of the file\nexpected: 1"):
        Registry([tmp_path]).card("cat@1")


def test_one_name_in_two_folders_is_an_error_that_names_both(tmp_path: Path) -> None:
    first, second = write(tmp_path / "one", "cat"), write(tmp_path / "two", "cat")
    write(tmp_path / "two", "dog")
    registry = Registry([tmp_path / "one", tmp_path / "two"])
    assert registry.names() == ["cat", "dog"]
    assert registry.card("dog").name == "dog"
    with pytest.raises(CardError) as caught:
        registry.card("cat")
    assert str(first) in str(caught.value) and str(second) in str(caught.value)


def test_the_same_folder_twice_is_one_folder(tmp_path: Path) -> None:
    write(tmp_path, "cat")
    (tmp_path / "link").symlink_to(tmp_path)
    assert Registry([tmp_path, tmp_path / "link", tmp_path]).card("cat").name == "cat"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone: the folder of cards cannot be listed.*\n.*BESTIARY_CARDS"):
        Registry([tmp_path / "gone"]).names()


def test_search_finds_by_words_best_first(tmp_path: Path) -> None:
    write(tmp_path, "owl", text="Knows nothing of cats.")
    write(tmp_path, "cats")
    write(tmp_path, "bert-cats", "task: fill-mask")
    registry = Registry([tmp_path])
    assert [card.name for card in registry.search("CATS")] == ["bert-cats", "cats", "owl"]
    assert [card.name for card in registry.search("cats embedding")] == ["cats", "owl"]
    assert registry.search("giraffe") == []
    assert [card.name for card in registry.search("")] == registry.names()


BASE = "config: {layers: 6, rope: {theta: 1, scale: 2}}\npreprocess: {length: 256, pooling: mean}\nlabels: [cat, dog]"


def test_a_card_inherits_from_its_base(tmp_path: Path) -> None:
    more = f"{BASE}\nversion: 4\nprecision: {{bf16: {{min_cosine: 1}}}}\naccept_license: true\n"
    more += f"adapter_of: {{name: x, sha256: {DIGEST}}}\n"
    write(tmp_path, "base", more + "metrics: [{dataset: d, metric: m, value: 1, command: c}]")
    over = "config: {layers: 2, rope: {scale: 3}}\nlabels: [owl]\ntask: \narchitecture: \nlayout: \nsources: "
    write(tmp_path, "small", f"base: base\n{over}")
    card = Registry([tmp_path]).card("small")
    assert card.config == {"layers": 2, "rope": {"theta": 1, "scale": 3}}   # mappings merge key by key
    assert card.labels == ("owl",)                                          # lists are replaced
    assert card.preprocess == {"length": 256, "pooling": "mean"}
    assert (card.task, card.architecture, card.layout) == ("text-embedding", "bert", "transformers")
    assert card.sources[0].kind == "path"
    assert (card.version, card.precision, card.metrics, card.accept_license) == (1, {}, (), False)   # the base's own
    assert card.adapter_of is None   # as it says what the base's files are


@pytest.mark.parametrize("key", ["files", "checked"])
def test_what_a_base_cannot_give(tmp_path: Path, key: str) -> None:
    write(tmp_path, "base")
    path = write(tmp_path, "small", "base: base")
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith(f"  {key}:")))
    with pytest.raises(CardError, match=rf"small\.md: bestiary\.{key}: missing"):
        Registry([tmp_path]).card("small")


def test_the_licence_is_never_inherited(tmp_path: Path) -> None:
    write(tmp_path, "base")
    path = write(tmp_path, "small", "base: base")
    path.write_text(path.read_text().replace("license: mit\n", ""))
    with pytest.raises(CardError, match=r"small\.md: license: missing"):
        Registry([tmp_path]).card("small")


def test_a_base_may_lie_in_another_folder_and_be_an_older_version(tmp_path: Path) -> None:
    write(tmp_path / "shipped", "base", "version: 2\nconfig: {layers: 12}")
    write(tmp_path / "shipped", "base@1", "config: {layers: 6}")
    write(tmp_path / "own", "small", "base: base@1")
    assert Registry([tmp_path / "shipped", tmp_path / "own"]).card("small").config == {"layers": 6}


@pytest.mark.parametrize("base", ["gone", "old@2"])
def test_a_base_that_is_not_there(tmp_path: Path, base: str) -> None:
    write(tmp_path, "old")
    write(tmp_path, "small", f"base: {base}")
    with pytest.raises(CardError, match=rf"small\.md: bestiary\.base: there is no card '{base}'"):
        Registry([tmp_path]).card("small")


def test_an_ancestry_has_a_limit(tmp_path: Path) -> None:
    write(tmp_path, "cat0")
    for index in range(1, LONGEST_ANCESTRY + 1):
        write(tmp_path, f"cat{index}", f"base: cat{index - 1}")
    registry = Registry([tmp_path])
    assert registry.card(f"cat{LONGEST_ANCESTRY - 1}").task == "text-embedding"
    with pytest.raises(CardError, match=r"cat1\.md: bestiary\.base: too long a line"):
        registry.card(f"cat{LONGEST_ANCESTRY}")


def installed(site: Path, package: str, declared: str) -> None:
    """A distribution as pip leaves it: a package with cards, which must not be imported, and its metadata."""
    write(site / "stranger" / "zoo", "kiwi")
    (site / "stranger" / "__init__.py").write_text("raise SystemExit('a listing imported the package')")
    metadata = site / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(declared)


def names_with(site: Path) -> subprocess.CompletedProcess[str]:
    """What a new process lists that has `site` on its path."""
    code = (
        "import sys; from bestiary.hub.registry import Registry; from bestiary.hub.settings import Settings\n"
        "print(*Registry.standard(Settings.read({})).names())\n"
        "assert 'torch' not in sys.modules and 'importlib.metadata' not in sys.modules"
    )
    root = str(Path(bestiary.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(site)])}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


def test_an_installed_package_adds_its_cards_without_being_imported(tmp_path: Path) -> None:
    installed(tmp_path, "stranger", "[console_scripts]\na = b:c\n\n[bestiary.cards]\nzoo = stranger.zoo\n")
    listing = names_with(tmp_path)
    assert listing.returncode == 0, listing.stderr
    assert {"kiwi", "minilm-l6-v2"} <= set(listing.stdout.split())


@pytest.mark.parametrize("declared", ["zoo = nowhere.to.be.found", "zoo = stranger.nothing", "zoo =", "zoo"])
def test_an_installed_package_that_announces_what_it_has_not(tmp_path: Path, declared: str) -> None:
    installed(tmp_path, "stranger", f"[bestiary.cards]\n{declared}\n")
    listing = names_with(tmp_path)
    assert listing.returncode == 1
    assert "bestiary.errors.InputError" in listing.stderr and "reinstall" in listing.stderr
