"""Fault 24 (names in cards): file names, digests, folders, addresses that lead elsewhere.

What must hold: the card is refused before anything is fetched, so that no such name ever becomes a path, an argument of a
command or an address.
"""

import pytest

from bestiary.errors import CardError
from bestiary.hub import names
from bestiary.hub.card import parse_card
from bestiary.hub.frontmatter import dump

DIGEST = "0123456789abcdef" * 4

TRAVERSING = [
    "", ".", "..", "../model", "a/../../model", "a/..", "/etc/passwd", "//host/share", "a//b", "a/", "./a", "a/./b", "~\x00",
    "..\\model", "a\\b", "C:model", "C:/model", "model:stream", "a\nb", "a\x1b[31m", "a\x00b", "a\u202eb", "a\u200bb", "a.", "a ",
    " a", "a/ /b", "a*", "a?", 'a"b', "a<b", "a|b", "x" * 256,
]


def card(**changes: object) -> str:
    """A good card but for these keys of its `bestiary` part."""
    part = {
        "name": "cat", "task": "text-embedding", "architecture": "bert", "layout": "transformers", "checked": "weights",
        "files": {"model.safetensors": {"size": 1, "sha256": DIGEST, "role": "weights"}}, "sources": [{"path": "."}],
    }
    return dump({"license": "mit", "bestiary": {**part, **changes}}, "")


def refused(**changes: object) -> str:
    with pytest.raises(CardError) as caught:
        parse_card(card(**changes), "zoo/cat.md")
    message = str(caught.value)
    assert message.startswith("zoo/cat.md: ")
    assert len(message.splitlines()) <= 3 and message.replace("\n", "").isprintable()
    return message


def test_the_card_that_the_others_differ_from_is_good() -> None:
    assert parse_card(card(), "zoo/cat.md").name == "cat"


@pytest.mark.parametrize(
    "name", ["model.safetensors", "unet/model-00001-of-00002.safetensors", "1_Pooling/config.json", "ü.txt", ".x", "a b"]
)
def test_names_that_stay_below_their_folder(name: str) -> None:
    files = {name: {"size": 1, "sha256": DIGEST, "role": "weights"}}
    assert parse_card(card(files=files), "zoo/cat.md").files[0].name == name


@pytest.mark.parametrize("name", TRAVERSING, ids=ascii)
def test_names_that_lead_elsewhere(name: str) -> None:
    refused(files={name: {"size": 1, "sha256": DIGEST, "role": "weights"}})
    wheel = {"package": "cats==1.0", "sha256": DIGEST}
    refused(sources=[{**wheel, "folder": name}])
    refused(sources=[{**wheel, "names": {"model.safetensors": name}}])
    if name != ".":
        refused(sources=[{"path": name}])


@pytest.mark.parametrize(
    "digest",
    ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "../" + "0" * 61, "0" * 64 + "\n", "\u0660" * 64, 0, None, ["0" * 64]],
    ids=ascii,
)
def test_digests_that_are_none(digest: object) -> None:
    assert "sha256: " in refused(files={"model.safetensors": {"size": 1, "sha256": digest, "role": "weights"}})
    assert "sha256: " in refused(sources=[{"package": "cats==1.0", "sha256": digest}])


@pytest.mark.parametrize("size", [0, -1, 1.5, "1", True, None, 2**64])
def test_sizes_that_are_none(size: object) -> None:
    files = {"model.safetensors": {"size": size, "sha256": DIGEST, "role": "weights"}}
    assert "files.model.safetensors.size: " in refused(files=files)


@pytest.mark.parametrize(
    "package",
    [
        "", "cats", "cats>=1.0", "cats==1.*", "cats[all]==1.0", "./cats==1.0", "cats==../1", "==", "-r x==1", "cats==1.0;x",
        "--index-url=https://evil.example", "cats==1.0 --index-url=https://evil.example", "cats==1.0\n-r x",
        "cats @ https://evil.example/x.whl",
    ],
)
def test_packages_that_say_more_to_pip_than_a_version(package: str) -> None:
    assert "sources[0].package: " in refused(sources=[{"package": package, "sha256": DIGEST}])


@pytest.mark.parametrize(
    "hf", ["", "cats", "a/b/c", "../cats", "a/..", "/a/b", "a/b?x=1", "https://evil.example/b", "-a/b", "a b/c"]
)
def test_repositories_that_are_none(hf: str) -> None:
    assert "sources[0].hf: " in refused(sources=[{"hf": hf, "revision": "main"}])


@pytest.mark.parametrize("revision", ["", "..", "../main", "a/../b", "/main", "main/", "a b", "-x", "main\n", "a?b", 1])
def test_revisions_that_are_none(revision: object) -> None:
    assert "sources[0].revision: " in refused(sources=[{"hf": "cats/cat", "revision": revision}])


@pytest.mark.parametrize(
    "url",
    [
        "", "models.example", "ftp://models.example/", "file:///etc/passwd", "http://models.example/", "http://10.0.0.1/",
        "https://me:secret@models.example/", "http://localhost@evil.example/", "http://127.0.0.1:80@evil.example/",
        "http://localhost.evil.example/", "http://127.0.0.1.evil.example/", "https://models.example\\@evil.example/",
        "https://models.example/?a=", "https://models.example/#a", "https://models.example/a b", "https://", "https:///x",
        "https://models.example/\nx", " https://models.example/", "HTTP://models.example",
    ],
)
def test_addresses_that_are_not_safe(url: str) -> None:
    assert "sources[0].url: " in refused(sources=[{"url": url}])


@pytest.mark.parametrize(
    "url",
    [
        "https://models.example", "https://models.example:8443/cats/v1/", "https://models.example/~me/a%20b/",
        "https://[2001:db8::1]/x", "http://localhost:8000/", "http://127.0.0.1/x", "http://[::1]:80/",
    ],
)
def test_addresses_that_are(url: str) -> None:
    assert parse_card(card(sources=[{"url": url}]), "zoo/cat.md").sources[0].address == url


@pytest.mark.parametrize("name", ["", "Cat", "-cat", ".cat", "cat/dog", "..", "cat@1", "c at", "cat\n", "ç", "x" * 101])
def test_card_names_that_are_none(name: str) -> None:
    assert "bestiary.name: " in refused(name=name)
    assert not names.is_card_name(name)


@pytest.mark.parametrize("architecture", ["os.system", "bert:Bert", "../bert", "Bert", "", "bert\n"])
def test_an_architecture_is_a_word_and_never_an_import_path(architecture: str) -> None:
    assert "bestiary.architecture: " in refused(architecture=architecture)
