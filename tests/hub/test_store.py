import hashlib
import os
import time
from pathlib import Path

import pytest

from bestiary.errors import DiskFullError, IntegrityError, LayoutError
from bestiary.hub.store import GRACE, Garbage, Store

CONTENT = b"some weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = b"something else"


def put(store: Store, content: bytes = CONTENT, origin: str = "a test") -> Path:
    with store.partial(hashlib.sha256(content).hexdigest(), len(content)) as partial:
        partial.write(content)
        return partial.commit(origin)


def reverse(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes()[::-1])


def left_behind(store: Store) -> list[Path]:
    return sorted(store.partials.iterdir())


def test_a_blob_is_named_by_its_digest_read_only_and_known_to_the_memo(store: Store) -> None:
    path = put(store)
    assert path == store.blobs / SHA256
    assert path.read_bytes() == CONTENT and path.stat().st_mode & 0o777 == 0o444
    assert store.memo.digest(path.stat()) == SHA256
    assert store.find(SHA256, len(CONTENT)) == path
    assert store.origin(SHA256) == "a test"
    assert store.holds(SHA256) and not store.holds("0" * 64)
    assert left_behind(store) == []


def test_an_empty_store_finds_nothing_and_makes_no_folder(store: Store) -> None:
    assert store.find(SHA256, len(CONTENT)) is None
    assert store.origin(SHA256) is None
    assert store.entries() == [] and store.garbage() == [] and sum(store.usage().values()) == 0
    with store.partial(SHA256, len(CONTENT)):
        pass
    assert not store.home.exists()


def test_the_first_origin_stays(store: Store) -> None:
    put(store, origin="first")
    put(store, origin="second")
    assert store.origin(SHA256) == "first"


class TestPartial:
    def test_what_is_left_is_continued(self, store: Store) -> None:
        with store.partial(SHA256, len(CONTENT)) as partial:
            partial.write(CONTENT[:4])
            partial.mark = "where it came from"
        done: list[int] = []
        with store.partial(SHA256, len(CONTENT), watch=done.append) as partial:
            assert partial.offset == 4 and partial.inherited and partial.mark == "where it came from"
            partial.write(CONTENT[4:])
            assert partial.commit("a test").read_bytes() == CONTENT
        assert done == [len(CONTENT)]
        assert left_behind(store) == []

    def test_one_that_is_being_written_is_not_claimed(self, store: Store) -> None:
        with store.partial(SHA256, len(CONTENT)) as first, store.partial(SHA256, len(CONTENT)) as second:
            first.write(CONTENT[:4])
            assert second.offset == 0
            second.write(CONTENT)
            second.commit("second")
            first.write(CONTENT[4:])
            assert first.commit("first").read_bytes() == CONTENT
        assert left_behind(store) == []

    def test_restart_forgets_bytes_and_mark(self, store: Store) -> None:
        with store.partial(SHA256, len(CONTENT)) as partial:
            partial.write(OTHER[:3])
            partial.mark = "x"
            partial.restart()
            assert partial.offset == 0 and partial.mark is None and not partial.inherited
            partial.write(CONTENT)
            assert partial.commit("a test").read_bytes() == CONTENT

    def test_it_refuses_to_grow_beyond_the_size(self, store: Store) -> None:
        with store.partial(SHA256, len(CONTENT), "weights") as partial, pytest.raises(IntegrityError, match="weights has more"):
            partial.write(CONTENT + b"!")

    @pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"!", b""])
    def test_wrong_bytes_become_no_blob(self, store: Store, content: bytes) -> None:
        with store.partial(SHA256, len(CONTENT), "model.bin") as partial:
            partial.write(content)
            with pytest.raises(IntegrityError, match=r"model\.bin: a liar gave") as caught:
                partial.commit("a liar")
        assert len(str(caught.value).splitlines()) == 3
        assert not store.holds(SHA256) and left_behind(store) == []
        assert [path.read_bytes() for path in store.quarantine.iterdir()] == [content]

    def test_bytes_changed_behind_its_back_are_seen_where_it_was_claimed(self, store: Store) -> None:
        with store.partial(SHA256, len(CONTENT)) as partial:
            partial.write(CONTENT[:4])
        with store.partial(SHA256, len(CONTENT)) as partial:
            partial.write(CONTENT[4:])
            with partial.path.open("r+b") as stranger:  # a writer that locks did not keep away
                stranger.write(b"!")
            with pytest.raises(IntegrityError):
                partial.commit("a test")

    def test_without_a_digest_it_takes_what_comes(self, store: Store) -> None:
        with store.partial(None, None) as partial:
            partial.write(CONTENT)
            assert partial.commit("a test") == store.blobs / SHA256
        with store.partial(None, None) as partial:
            partial.write(CONTENT)
        assert left_behind(store) == []

    def test_a_store_that_cannot_be_written_is_a_clear_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        store = Store(tmp_path / "file" / "store")
        assert store.find(SHA256, len(CONTENT)) is None
        with pytest.raises(DiskFullError, match=r"model\.bin cannot be written to .*: Not a directory") as caught:
            put_named(store)
        assert len(str(caught.value).splitlines()) <= 3


def put_named(store: Store) -> None:
    with store.partial(SHA256, len(CONTENT), "model.bin") as partial:
        partial.write(CONTENT)


class TestConversions:
    def test_one_is_made_once_for_each_source_converter_and_version(self, store: Store) -> None:
        source = put(store)
        calls = []

        def convert(source: Path, target: Path) -> None:
            calls.append(source)
            reverse(source, target)

        first = store.converted(source, SHA256, "reverse", 1, convert)
        assert first.read_bytes() == CONTENT[::-1] and first.stat().st_mode & 0o777 == 0o444
        assert store.converted(source, SHA256, "reverse", 1, convert) == first and len(calls) == 1
        store.converted(source, SHA256, "reverse", 2, convert)
        store.converted(source, SHA256, "mirror", 1, convert)
        assert len(calls) == 3
        assert store.origin(first.name) == f"reverse 1, from {SHA256}"
        assert left_behind(store) == []

    def test_a_rotten_one_is_made_again(self, store: Store) -> None:
        source = put(store)
        path = store.converted(source, SHA256, "reverse", 1, reverse)
        path.chmod(0o644)
        path.write_bytes(OTHER)
        assert store.converted(source, SHA256, "reverse", 1, reverse).read_bytes() == CONTENT[::-1]

    def test_a_failure_goes_through_and_leaves_nothing(self, store: Store) -> None:
        source = put(store)

        def fail(source: Path, target: Path) -> None:
            target.write_bytes(b"half")
            raise LayoutError("not what it should be")

        with pytest.raises(LayoutError):
            store.converted(source, SHA256, "reverse", 1, fail)
        assert left_behind(store) == [] and len(store.entries()) == 1


class TestKeepingHouse:
    def test_entries_and_usage(self, store: Store) -> None:
        source = put(store)
        converted = store.converted(source, SHA256, "reverse", 1, reverse)
        with store.partial("0" * 64, 100) as partial:
            partial.write(b"abc")
        entries = {entry.path: entry for entry in store.entries()}
        assert entries[source].kind == "file" and entries[converted].kind == "conversion"
        assert entries[source].size == len(CONTENT) and entries[source].origin == "a test"
        assert abs(entries[source].used - time.time()) < 3600
        assert store.usage() == {"files": len(CONTENT), "conversions": len(CONTENT), "unfinished": 3, "quarantine": 0}

    def test_remove_takes_along_what_was_converted_from_it(self, store: Store) -> None:
        source = put(store)
        other = put(store, OTHER)
        store.converted(source, SHA256, "reverse", 1, reverse)
        assert store.remove(SHA256) == 2 * len(CONTENT)
        assert [entry.path for entry in store.entries()] == [other]
        assert list(store.conversions.iterdir()) == [] and store.origin(SHA256) is None
        assert store.remove(SHA256) == 0

    def test_leftovers_are_garbage_after_their_grace(self, store: Store) -> None:
        with store.partial("0" * 64, 100) as partial:
            partial.write(b"abc")
            partial.mark = "x"
        assert store.garbage() == []
        for path in left_behind(store):
            os.utime(path, (time.time() - GRACE - 60,) * 2)
        garbage = store.garbage()
        assert [(item.path, item.reason) for item in garbage] == [(path, "unfinished") for path in left_behind(store)]
        assert store.prune(garbage) == 4 and left_behind(store) == []

    def test_what_is_complete_needs_no_leftovers(self, store: Store) -> None:
        with store.partial(SHA256, len(CONTENT)) as idle, store.partial(SHA256, len(CONTENT)) as busy:
            idle.write(CONTENT[:3])
            busy.write(CONTENT)
            busy.commit("a test")
        (item,) = store.garbage()
        assert item.reason == "already complete" and item.size == 3

    def test_one_that_came_to_life_survives(self, store: Store) -> None:
        with store.partial("0" * 64, 100) as partial:
            partial.write(b"abc")
        garbage = store.garbage(grace=0)
        with store.partial("0" * 64, 100) as partial:
            assert partial.offset == 3
            assert store.prune([*garbage, Garbage(path=partial.path, size=3, reason="unfinished")]) == 0
            assert partial.path.exists()

    def test_quarantine_is_garbage(self, store: Store) -> None:
        with store.partial(SHA256, len(CONTENT)) as partial, pytest.raises(IntegrityError):
            partial.write(OTHER[:5])
            partial.commit("a liar")
        (item,) = store.garbage()
        assert (item.size, item.reason) == (5, "quarantined")
        store.prune([item])
        assert store.usage()["quarantine"] == 0

    def test_conversions_of_what_is_gone_are_garbage(self, store: Store, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.write_bytes(CONTENT)
        path = store.converted(elsewhere, SHA256, "reverse", 1, reverse)
        assert store.garbage() == []
        elsewhere.unlink()
        garbage = store.garbage()
        assert {item.path for item in garbage} == {path, *store.conversions.iterdir()}
        store.prune(garbage)
        assert store.entries() == [] and store.garbage() == []
