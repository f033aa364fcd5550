import hashlib
import os
import time
from pathlib import Path

import pytest

from bestiary.errors import IntegrityError
from bestiary.hub.verify import WEEK, Memo, check_file, digest_file

CONTENT = bytes(range(256)) * 10_000  # more than two chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def memo(tmp_path: Path) -> Memo:
    return Memo(tmp_path / "memo")


def test_size_and_digest(file: Path, memo: Memo) -> None:
    assert digest_file(file, memo) == (len(CONTENT), SHA256)
    assert memo.digest(file.stat()) == SHA256
    check_file(file, SHA256, len(CONTENT), memo)


def test_a_memo_of_over_a_week_ago_or_of_the_future_counts_for_nothing(file: Path, memo: Memo) -> None:
    digest_file(file, memo)
    (note,) = memo.folder.iterdir()
    for then in (time.time() - WEEK - 1, time.time() + 1000):
        os.utime(note, (then, then))
        assert memo.digest(file.stat()) is None


def test_a_touched_file_is_hashed_again(file: Path, memo: Memo) -> None:
    digest_file(file, memo)
    os.utime(file, (1, 1))
    assert memo.digest(file.stat()) is None


def test_always_does_not_ask_the_memo(file: Path, memo: Memo) -> None:
    memo.remember(file.stat(), "0" * 64)
    assert digest_file(file, memo) == (len(CONTENT), "0" * 64)
    assert digest_file(file, memo, "always") == (len(CONTENT), SHA256)


def test_a_memo_that_cannot_be_written_costs_only_a_hash(file: Path, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file where the folder should be")
    memo = Memo(tmp_path / "occupied")
    assert digest_file(file, memo) == (len(CONTENT), SHA256)
    assert memo.digest(file.stat()) is None


def test_errors_name_the_file_and_what_is_wrong(file: Path, memo: Memo, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, digest, size, problem in (
        (file, SHA256, 7, "has 2560000 bytes instead of 7"),
        (file, "0" * 64, len(CONTENT), f"has sha256 {SHA256[:12]}… instead of 000000000000…"),
        (tmp_path, SHA256, 1, "is not a plain file"),
        (tmp_path / "pipe", SHA256, 1, "is not a plain file"),
        (tmp_path / "nothing", SHA256, 1, "cannot be read: No such file or directory"),
    ):
        with pytest.raises(IntegrityError) as caught:
            check_file(path, digest, size, memo)
        assert f"{path} {problem}" in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 3
