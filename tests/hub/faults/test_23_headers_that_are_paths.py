from pathlib import Path

import pytest

from bestiary.errors import CardError
from tests.hub.faults.harness import SHA256, Zoo


def everything_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_no_header_becomes_a_path(zoo: Zoo, tmp_path: Path) -> None:
    path = zoo.fetch("names_paths").path
    assert path == zoo.store.blobs / SHA256
    status = path.stat()
    note = f"{status.st_dev:x}-{status.st_ino:x}"
    assert everything_below(tmp_path) == {
        f"home/blobs/{SHA256}", f"home/origins/{SHA256}", f"home/verified/{note}", f"home/locks/{SHA256}",
    }  # fmt: skip
    assert zoo.requests("names_paths")[1]["if-range"] == '"../../../escaped"'  # given back to whom it came from


@pytest.mark.parametrize("digest", ["../../escaped", "/etc/passwd", SHA256.upper(), SHA256[:-1], "", SHA256 + "\n"])
def test_only_a_digest_is_taken_for_one(zoo: Zoo, digest: str) -> None:
    with pytest.raises(CardError, match="not a sha256"):
        zoo.store.find(digest, 1)
    with pytest.raises(CardError, match="not a sha256"):
        zoo.store.remove(digest)
    assert not zoo.settings.home.exists()
