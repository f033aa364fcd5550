"""Images by the name of a card, or of a repository of Hugging Face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bestiary.core import tables
from bestiary.core.classfolders import TABLES, Opened
from bestiary.core.generated import Source, generated
from bestiary.core.tables import Files
from bestiary.errors import InputError
from bestiary.hub.dataset import DatasetCard, check_medium
from bestiary.hub.progress import standard_progress
from bestiary.hub.registry import Datasets
from bestiary.hub.repository import repository_card
from bestiary.hub.settings import Settings
from bestiary.hub.trust import Trust
from bestiary.vision.datasets.drawings import SIZE, open_emoji
from bestiary.vision.datasets.formats import FORMATS, IMAGE, VERSION
from bestiary.vision.datasets.local import tars_by_split
from bestiary.vision.datasets.webdataset import TARS, open_tars

if TYPE_CHECKING:
    from bestiary.core.tables import Rows


def open_card(name: str, split: str, settings: Settings, trust: Trust, *, streaming: bool, size: int | None) -> Opened:
    """The rows of a card by its name, or of a repository as `hf:owner/repo`. Raises what `load` does."""
    card = _repository(name, split, settings, trust) if name.startswith("hf:") else Datasets.standard(settings).card(name)
    check_medium(card, "vision")
    check_drawn(name, card.format, size)
    chosen = tables.pick_split(card.splits, split, name)
    drawings = [card.file("archive")] if card.format == "emoji" else []
    wanted = [*(file for name in chosen.files for file in card.files if file.name == name), *drawings]
    fetched = trust.fetch(card, settings, standard_progress(), wanted)
    paths = tuple(str(fetched[file.name].path) for file in wanted)
    digests = tuple(str(fetched[file.name].file.sha256) for file in wanted)
    source = Source(paths, digests, chosen.members, split, VERSION)
    if card.format == "emoji":
        return Opened(open_emoji(card, source, SIZE if size is None else size, streaming=streaming))
    if card.format in FORMATS:
        return Opened(_published(card, source, streaming))
    return Opened(tables.name_columns(_plain(card, source, streaming), card.columns, card.labels))


def check_drawn(name: str, form: str, size: int | None) -> None:
    """Raise InputError for a size that is asked for of images that have one."""
    if size is not None and form != "emoji":
        raise InputError(f"{name} is not drawn: its images have a size\nleave out size, and resize them in a transform")


def _plain(card: DatasetCard, source: Source, streaming: bool) -> Rows:
    """Tables that hold their images, and tars."""
    if card.format == "webdataset":
        return open_tars(source.paths, source.split, streaming=streaming)
    return tables.open_rows(Files(card.format, source.paths), source.split, streaming=streaming and card.format == "parquet")


def _published(card: DatasetCard, source: Source, streaming: bool) -> Rows:
    from datasets import ClassLabel

    from bestiary.vision.datasets.picture import Picture

    form = FORMATS[card.format]
    features = {IMAGE: Picture(), **form.columns(ClassLabel(names=list(card.labels or ())))}
    return generated(form.rows, features, source.split, streaming=streaming, source=source)


def _repository(name: str, split: str, settings: Settings, trust: Trust) -> DatasetCard:
    def choose(names: Sequence[str]) -> tuple[str, tuple[str, ...]]:
        tars = [file for file in names if file.lower().endswith(TARS)]
        listed = [file for file in names if file.lower().endswith(TABLES)]
        if tars and not listed:
            return "webdataset", tuple(tables.pick_split(tars_by_split(tars), split, name))
        return tables.pick_split(tables.by_split(listed, name), split, name)

    return repository_card(name, split, choose, settings, trust)
