"""Repositories of data on Hugging Face: cards made from the names of their files, which nobody has pinned."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bestiary.errors import InputError, OfflineError
from bestiary.hub.names import is_relative_path, is_repository, is_revision
from bestiary.hub.records import DatasetCard, File, SourceSpec, Split
from bestiary.hub.settings import Settings
from bestiary.hub.trust import Trust


def repository_card(
    name: str, split: str, choose: Callable[[Sequence[str]], tuple[str, tuple[str, ...]]], settings: Settings, trust: Trust
) -> DatasetCard:
    """The card of `hf:owner/repo[/folder][@revision]` with one split: of the files there, `choose` gives format and names.

    Offline the lock file says what there is. Raises InputError for a name of another form, IntegrityError and OfflineError.
    """
    address, _, revision = name.removeprefix("hf:").partition("@")
    revision = revision or "main"
    owner, _, rest = address.partition("/")
    repository, _, folder = rest.partition("/")
    named = is_repository(f"datasets/{owner}/{repository}") and (not folder or is_relative_path(folder))
    if not named or not is_revision(revision):
        raise InputError(f"{name[:80]!r} does not name a data set\nwrite hf:owner/repo, hf:owner/repo/folder, or ...@revision")
    source = SourceSpec(kind="hf", address=f"datasets/{owner}/{repository}", revision=revision)
    card_name = f"hf:{source.address}"
    pins = trust.pins(card_name, revision)
    if settings.offline and not pins:
        raise OfflineError(f"{name} has not been here before, and the network is switched off\nswitch it on and load it once")
    there = list(pins) if settings.offline else _listing(source)
    form, names = choose([path for path in there if path == folder or path.startswith(f"{folder}/" if folder else "")])
    return DatasetCard(
        name=card_name,
        license="unknown",
        format=form,
        files=tuple(File(name=path, role="table") for path in names),
        splits={split: Split(files=names, rows=None)},
        sources=(source,),
        pinned=False,
    )


def _listing(source: SourceSpec) -> list[str]:
    from bestiary.hub.sources.huggingface import HuggingFaceSource  # its library takes long to import

    return list(filter(is_relative_path, HuggingFaceSource(source).listing()))
