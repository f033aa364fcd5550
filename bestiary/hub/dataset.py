"""Cards of data sets: one Markdown file each, in the folder `datasets` beside the cards of models.

It is a valid Hugging Face data-set card; what Bestiary needs stands under the key `bestiary`, as in the card of a model.
"""

from pathlib import Path

from bestiary.errors import InputError
from bestiary.hub import frontmatter, reading
from bestiary.hub.fields import Field
from bestiary.hub.records import DatasetCard, Split

__all__ = ["FOLDER", "FORMATS", "DatasetCard", "Split", "check_medium", "read_dataset_card"]

FOLDER = "datasets"   # in every folder of cards
TABLES = ("parquet", "jsonl", "csv", "tsv", "txt")
IMAGES = ("idx", "idx-columns", "cifar-10", "cifar-100", "flowers", "pets", "coco", "digits", "webdataset")
SOUNDS = ("asterisk", "librispeech", "speech-commands", "common-voice")
FORMATS = (*TABLES, "emoji", *IMAGES, *SOUNDS)

# What each domain reads; emoji are names and drawings both.
_READ_BY = {"text": (*TABLES, "emoji"), "vision": (*TABLES, "emoji", *IMAGES), "audio": (*TABLES, *SOUNDS)}

_KEYS = (
    "schema", "name", "version", "format", "splits", "columns", "labels", "files", "sources", "pinned", "accept_license",
)


def read_dataset_card(path: Path) -> DatasetCard:
    """The card of a data set in a file. Raises CardError, naming file, key and expected form."""
    front, text = frontmatter.load(reading.content(path), str(path))
    top = Field(str(path), "", front)
    part = top.need("bestiary", "a mapping with what makes this data set").only(_KEYS)
    common = reading.common(top, part, path)
    return DatasetCard(
        **common,
        metadata=reading.metadata(front, "task_categories"),
        tasks=reading.optional(top, "task_categories", Field.texts, ()),
        format=part.need("format", f"one of {', '.join(FORMATS)}").text(f"one of {', '.join(FORMATS)}", FORMATS.__contains__),
        columns=reading.optional(part, "columns", _columns, {}),
        labels=reading.optional(part, "labels", Field.texts, None),
        splits=_splits(part.need("splits", "at least one split"), {file.name for file in common["files"]}),
        text=text,
    )


def check_medium(card: DatasetCard, domain: str) -> None:
    """Raise InputError for a data set that this domain, text, vision or audio, does not read, and name one that does."""
    if card.format not in _READ_BY[domain]:
        reader = next(name for name, formats in _READ_BY.items() if card.format in formats)
        holds = {"text": "texts", "vision": "images", "audio": "sounds"}[reader]
        raise InputError(f"{card.name} holds {holds}\nload it with bestiary.{reader}.datasets")


def _columns(field: Field) -> dict[str, str]:
    return {ours: theirs.text("the name of a column in the files") for ours, theirs in field.entries().items()}


def _splits(field: Field, files: set[str]) -> dict[str, Split]:
    splits = {name: _split(entry.only(("files", "members", "rows")), files) for name, entry in field.entries().items()}
    if not splits:
        raise field.error("empty", "at least one split, such as train")
    return splits


def _split(field: Field, files: set[str]) -> Split:
    listed, known = field.need("files", "names of files of this card"), "one of " + ", ".join(sorted(files))
    named = tuple(item.text(known, files.__contains__) for item in listed.items())
    if not named:
        raise listed.error("empty", "at least one file")
    none: tuple[str, ...] = ()
    members = reading.optional(field, "members", Field.texts, none)
    return Split(files=named, members=members, rows=field.need("rows", "how many").whole())
