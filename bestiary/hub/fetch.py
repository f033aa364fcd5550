"""Fetching: from the files that a card names to verified paths, by whichever source delivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bestiary.errors import BestiaryError, IntegrityError, OfflineError, SourceError
from bestiary.hub.progress import Progress, Silent
from bestiary.hub.records import BaseCard, File
from bestiary.hub.settings import Settings
from bestiary.hub.sources import Source, open_mirror, open_source
from bestiary.hub.store import Store
from bestiary.hub.verify import Verify


@dataclass(frozen=True)
class Fetched:
    """A verified file. `origin` is the source that delivered it, at this or an earlier time."""

    file: File
    path: Path
    origin: str


def fetch(
    card: BaseCard,
    settings: Settings,
    *,
    files: Sequence[File] | None = None,
    offline: bool | None = None,
    verify: Verify = "memo",
    progress: Progress | None = None,
) -> dict[str, Fetched]:
    """Verified paths of a card's files (all, or `files`), by name; what is not in the store is fetched first.

    Sources are asked in this order: what lies on the machine, other sources that need no network, those that do as the
    card lists them, mirrors. A file without a digest (`pinned: false`) is taken as it comes, and its `Fetched.file` says
    what came: whether that is allowed is the caller's decision.

    Raises:
        OfflineError: the network is needed, and is switched off or not there.
        IntegrityError: a source delivered other bytes than the card names, and no other source the right ones.
        SourceError: no source could deliver.
        DiskFullError: the store cannot be written.
    """
    offline = settings.offline if offline is None else offline
    with ExitStack() as stack:
        sources = _Sources(card, settings.mirrors, offline, stack)
        errand = _Errand(card, Store(settings.home), sources, verify, progress or Silent())
        wanted = card.files if files is None else files
        # The largest first: a source that brings all of them at once shows on its bar how far that is.
        fetched = {file.name: errand.fetch(file) for file in sorted(wanted, key=lambda file: -(file.size or 0))}
    return {file.name: fetched[file.name] for file in wanted}


class _Sources:
    """Who is asked, in order; each source is opened when the first file gets to it, and closed with `stack`."""

    def __init__(self, card: BaseCard, mirrors: Sequence[str], offline: bool, stack: ExitStack) -> None:
        near = [spec for spec in card.sources if spec.kind == "path"]
        far = [spec for spec in card.sources if spec.kind != "path"]
        near_mirrors = [address for address in mirrors if "://" not in address]
        far_mirrors = [address for address in mirrors if "://" in address]
        self.withheld = [spec.address for spec in far] + far_mirrors if offline else []
        self._openers: list[Callable[[], Source]] = [
            partial(_machine, card),
            *(partial(open_source, spec, card) for spec in near),
            *(partial(open_mirror, address) for address in near_mirrors),
        ]
        if not offline:
            self._openers += [partial(open_source, spec, card) for spec in far]
            self._openers += [partial(open_mirror, address) for address in far_mirrors]
        self._opened: list[Source] = []
        self._stack = stack

    def __iter__(self) -> Iterator[Source]:
        for index, opener in enumerate(self._openers):
            if index == len(self._opened):
                self._opened.append(opener())
                self._stack.callback(self._opened[-1].close)
            yield self._opened[index]


def _machine(card: BaseCard) -> Source:
    # Imported when it is asked: reading the metadata of installed packages is a heavy import, and a warm load needs none.
    from bestiary.hub.sources.machine import MachineCaches

    return MachineCaches(card)


@dataclass(frozen=True)
class _Failure:
    source: Source
    error: BestiaryError


@dataclass(frozen=True)
class _Errand:
    card: BaseCard
    store: Store
    sources: _Sources
    verify: Verify
    progress: Progress

    def fetch(self, file: File) -> Fetched:
        if found := self._stored(file):
            return found
        self.progress.begin(file.name, file.size)
        try:
            if file.sha256 is None:
                return self._ask_all(file)
            with self.store.turn(file.sha256, watch=self.progress.at):
                return self._stored(file) or self._ask_all(file)
        finally:
            self.progress.end()

    def _stored(self, file: File) -> Fetched | None:
        if file.sha256 is None or file.size is None:
            return None
        path = self.store.find(file.sha256, file.size, verify=self.verify)
        return Fetched(file, path, self.store.origin(file.sha256) or "the store") if path else None

    def _ask_all(self, file: File) -> Fetched:
        failures = []
        for source in self.sources:
            try:
                return self._ask(source, file)
            except (OfflineError, SourceError, IntegrityError) as error:
                failures.append(_Failure(source, error))
        raise self._explanation(file, failures)

    def _ask(self, source: Source, file: File) -> Fetched:
        source.watch(self.progress.at)
        while True:
            with self.store.partial(file.sha256, file.size, file.name, watch=self.progress.at) as sink:
                path = source.obtain(file, sink)
                if path is not None:
                    return self._in_place(path, file, source)
                try:
                    path = sink.commit(source.label)
                except IntegrityError:
                    # Only a source that gave every byte itself can be blamed. What earlier ones left is in quarantine
                    # now, so the next time round there is less of it.
                    if sink.inherited:
                        continue
                    raise
            return Fetched(replace(file, size=path.stat().st_size, sha256=path.name), path, source.label)

    def _in_place(self, path: Path, file: File, source: Source) -> Fetched:
        if file.sha256 is None or file.size is None:
            size, sha256 = self.store.digest(path)
            file = replace(file, size=size, sha256=sha256)
        else:
            self.store.check(path, file.sha256, file.size, verify=self.verify)
        return Fetched(file, path, source.label)

    def _explanation(self, file: File, failures: Sequence[_Failure]) -> BestiaryError:
        """One error for all that failed; the gravest decides its class."""
        what = f"{file.name} of {self.card.name}"
        # That a cache or a folder does not have the file goes without saying where other sources were asked, too.
        telling = [failure for failure in failures if failure.source.remote or isinstance(failure.error, IntegrityError)]
        reasons = "; ".join(_reason(failure) for failure in telling or failures)
        errors = [failure.error for failure in failures]
        if any(isinstance(error, IntegrityError) for error in errors):
            return IntegrityError(
                f"{what}: a source gave wrong bytes, and no other the right ones.\n{reasons}\n"
                "None of them was used. Tell whoever runs that source, or name another one in BESTIARY_MIRRORS."
            )
        if self.sources.withheld:
            return OfflineError(
                f"{what} is not on this machine, and the network is switched off.\n"
                f"It could come from {', '.join(self.sources.withheld)}.\n"
                f"Switch it on (BESTIARY_OFFLINE, offline=) and run `bestiary pull {self.card.name}` once."
            )
        far = [failure.error for failure in failures if failure.source.remote]
        if far and all(isinstance(error, OfflineError) for error in far):
            return OfflineError(
                f"{what} is not on this machine, and no source can be reached.\n{reasons}\n"
                "Check the network and the proxy, or name a mirror or a folder that has it in BESTIARY_MIRRORS."
            )
        return SourceError(
            f"{what}: no source could deliver it.\n{reasons}\n"
            f"See what the card lists with `bestiary show {self.card.name}`, or name a mirror in BESTIARY_MIRRORS."
        )


def _reason(failure: _Failure) -> str:
    """The first line of what a source said, with its name, and without what a terminal would obey."""
    line = str(failure.error).splitlines()[0][:300].rstrip(".:;")
    reason = line if failure.source.label in line else f"{failure.source.label}: {line}"
    return "".join(character if character.isprintable() else "?" for character in reason)
