"""`hf:` sources: a file of a repository on the Hugging Face Hub, fetched by its own library and used in that library's cache."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub import errors as hub

# What it lets through when a connection breaks; which HTTP library that comes from has changed and may change again.
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

from bestiary.errors import BestiaryError, DiskFullError, OfflineError, SourceError
from bestiary.hub.records import File, SourceSpec
from bestiary.hub.sources import Sink, Source
from bestiary.hub.verify import hash_stream

DATASETS = "datasets/"  # what the address of a data set's repository begins with


class HuggingFaceSource(Source):
    """Tokens, endpoint and cache are as huggingface_hub is set up; it shows its own progress. `offline` asks the cache alone."""

    remote = True

    def __init__(self, spec: SourceSpec, *, offline: bool = False) -> None:
        self.offline = offline
        self.label = f"Hugging Face repository {spec.address}"
        self._spec = spec
        self._repository = spec.address.removeprefix(DATASETS)
        self._kind = "dataset" if spec.address.startswith(DATASETS) else "model"

    def obtain(self, file: File, sink: Sink) -> Path:
        name = self._spec.names.get(file.name, file.name)
        cached = self._cached(name)
        # The library believes what its cache holds and would give the same rotten file for ever.
        return self.download(name, force_download=cached is not None and not _holds(cached, file))

    def download(self, name: str, *, force_download: bool = False) -> Path:
        """The path of a file of the repository in the library's cache, by its name there.

        Raises OfflineError where the repository cannot be reached, SourceError where it does not yield the file.
        """
        repository, kind, revision = self._repository, self._kind, self._spec.revision
        try:
            if not self.offline and (force_download or self._cached(name) is None):
                _look(hf_hub_url(repository, name, repo_type=kind, revision=revision))
            return Path(
                hf_hub_download(
                    repository, name, repo_type=kind, revision=revision,
                    force_download=force_download, local_files_only=self.offline,
                )
            )  # fmt: skip
        except Exception as error:  # its own, and whatever its HTTP client, its transfer library and the disk raise
            raise self._translated(error, name) from error

    def find(self, name: str) -> Path | None:
        """What `download` gives, or None where there is no such file."""
        try:
            return self.download(name)
        except (OfflineError, SourceError) as error:
            if isinstance(error.__cause__, hub.LocalEntryNotFoundError if self.offline else hub.RemoteEntryNotFoundError):
                return None
            raise

    def listing(self) -> list[str]:
        """The names of all files of the repository. Raises OfflineError, SourceError."""
        try:
            return HfApi().list_repo_files(self._repository, repo_type=self._kind, revision=self._spec.revision)
        except Exception as error:
            raise self._translated(error, "its list of files") from error

    def _cached(self, name: str) -> Path | None:
        found = try_to_load_from_cache(self._repository, name, repo_type=self._kind, revision=self._spec.revision)
        return Path(found) if isinstance(found, str) else None

    def _translated(self, error: Exception, name: str) -> BestiaryError:
        # What it could not look up comes as the cause of an error that advises on its parameters.
        reason = error.__cause__ if isinstance(error, hub.LocalEntryNotFoundError | ValueError) and error.__cause__ else error
        match reason:
            case hub.GatedRepoError():
                return SourceError(
                    f"{self.label} asks to accept its terms.\nAccept them on its page, then run `hf auth login` or set HF_TOKEN."
                )
            case hub.RepositoryNotFoundError():
                return SourceError(
                    f"{self.label} does not exist, or is private.\nCheck its name; if it is private, run `hf auth login`."
                )
            case hub.RevisionNotFoundError():
                return SourceError(f"{self.label} has no revision {self._spec.revision}.\nCheck the revision in the card.")
            case hub.LocalEntryNotFoundError() | hub.OfflineModeIsEnabled():
                return OfflineError(
                    f"{self.label} cannot be reached, and its cache does not hold {name}.\n"
                    "Check the network, HF_HUB_OFFLINE and HF_ENDPOINT."
                )
            case hub.EntryNotFoundError():
                return SourceError(f"{self.label} has no file {name} in revision {self._spec.revision}.\nCheck the card.")
            case hub.HfHubHTTPError(response=response) if response.status_code in (401, 403):
                return SourceError(f"{self.label} refuses to give {name}.\nCheck HF_TOKEN, or run `hf auth login`.")
            case hub.HfHubHTTPError():
                return SourceError(f"{self.label} answers {reason.response.status_code} when asked for {name}.\nTry again later.")
            case HTTPError() | ConnectionError():
                return OfflineError(f"{self.label} cannot be reached: {_line(reason)}.\nCheck the network and HF_ENDPOINT.")
            case OSError(errno=errno.ENOSPC):
                return DiskFullError(
                    f"{self.label}: its cache has no room for {name}.\nFree some space, or point HF_HOME at another disk."
                )
            case _:
                return SourceError(f"{self.label} did not yield {name}: {_line(reason)}.\nTry again, or another source.")


def _look(url: str) -> None:
    """Raise at once when nobody answers: the library would try for half a minute. What an answer means is left to it."""
    with suppress(hub.HfHubHTTPError):
        get_hf_file_metadata(url)


def _holds(path: Path, file: File) -> bool:
    """Whether a cached file is the card's; one that the card does not pin is taken as it is."""
    if file.sha256 is None:
        return True
    try:
        with path.open("rb", buffering=0) as content:
            return path.stat().st_size == file.size and hash_stream(content) == file.sha256
    except OSError:
        return False


def _line(error: BaseException) -> str:
    """The first line of someone else's message, fit for a terminal."""
    lines = str(error).splitlines() or [type(error).__name__]
    return "".join(filter(str.isprintable, lines[0]))[:200].rstrip(".")
