"""Sounds by the name of a card, or of a repository of Hugging Face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bestiary.audio.datasets.formats import FORMATS, VERSION
from bestiary.audio.datasets.recording import AUDIO, Recording
from bestiary.core import tables
from bestiary.core.classfolders import TABLES, Opened
from bestiary.core.generated import Source, generated
from bestiary.core.tables import Files
from bestiary.hub.dataset import DatasetCard, check_medium
from bestiary.hub.progress import standard_progress
from bestiary.hub.registry import Datasets
from bestiary.hub.repository import repository_card
from bestiary.hub.settings import Settings
from bestiary.hub.trust import Trust

if TYPE_CHECKING:
    from bestiary.core.tables import Rows


def open_card(name: str, split: str, settings: Settings, trust: Trust, *, streaming: bool) -> Opened:
    """The rows of a card by its name, or of a repository as `hf:owner/repo`. Raises what `load` does."""
    card = _repository(name, split, settings, trust) if name.startswith("hf:") else Datasets.standard(settings).card(name)
    check_medium(card, "audio")
    chosen = tables.pick_split(card.splits, split, name)
    wanted = [file for file in card.files if file.name in chosen.files]
    fetched = trust.fetch(card, settings, standard_progress(), wanted)
    paths = tuple(str(fetched[file.name].path) for file in wanted)
    if card.format not in FORMATS:
        rows = tables.open_rows(Files(card.format, paths), split, streaming=streaming and card.format == "parquet")
        return Opened(tables.name_columns(rows, card.columns, card.labels))
    digests = tuple(str(fetched[file.name].file.sha256) for file in wanted)
    return Opened(_published(card, Source(paths, digests, chosen.members, split, VERSION), streaming))


def _published(card: DatasetCard, source: Source, streaming: bool) -> Rows:
    from datasets import ClassLabel

    form = FORMATS[card.format]
    features = {AUDIO: Recording(), **form.columns(ClassLabel(names=list(card.labels or ())))}
    return generated(form.rows, features, source.split, streaming=streaming, source=source)


def _repository(name: str, split: str, settings: Settings, trust: Trust) -> DatasetCard:
    def choose(names: Sequence[str]) -> Files:
        listed = [file for file in names if file.lower().endswith(TABLES)]
        return tables.pick_split(tables.by_split(listed, name), split, name)

    return repository_card(name, split, choose, settings, trust)
