from pathlib import Path

from bestiary.hub.card import SourceSpec
from bestiary.hub.fetch import fetch
from tests.hub.faults.harness import FILE, Zoo, card_of
from tests.hub.faults.server import BODY


def test_what_no_card_names_is_not_loaded(zoo: Zoo, tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    for name in (FILE.name, "model.py", "pytorch_model.bin", "autorun.inf"):
        (folder / name).write_bytes(BODY if name == FILE.name else b"raise SystemExit")
    fetched = fetch(card_of(SourceSpec(kind="path", address=str(folder))), zoo.settings)
    assert {name: item.path for name, item in fetched.items()} == {FILE.name: folder / FILE.name}
    assert zoo.blobs() == []
