"""How values become text that is safe to print."""

import pytest

from bestiary.cli.output import as_size, as_text, clean, write_lines


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("plain, ünïcödé, 日本語", "plain, ünïcödé, 日本語"),
        ("\x1b]0;title\x07\x1b[2J", "]0;title[2J"),
        ("\x9b31m one-byte sequences", "31m one-byte sequences"),
        ("over\rwritten\b\b", "overwritten"),
        ("lines\nand\ttabs stay", "lines\nand\ttabs stay"),
        ("back\u202ewards and \u2066isolated\u2069", "backwards and isolated"),
    ],
)
def test_clean_takes_away_what_steers_a_terminal(text: str, harmless: str) -> None:
    assert clean(text) == harmless


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, ""), (0, "0 B"), (1000, "1.0 kB"), (90_868_376, "90.9 MB"), (999_960_000, "1.0 GB"), (10**15, "1000.0 TB")],
)
def test_sizes(count: int | None, text: str) -> None:
    assert as_size(count) == text


def test_cells() -> None:
    assert [as_text(value) for value in (None, True, False, 0, ["a", 1], {"bf16": {"min_cosine": 0.9998}})] == [
        "", "yes", "no", "0", "a 1", "bf16 min_cosine 0.9998",
    ]  # fmt: skip


def test_a_cell_cannot_break_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_lines([["a\tb", "c\nd\x1b[1m", 3], ["e", "f", 4]])
    assert capsys.readouterr().out == "a b\tc d[1m\t3\ne\tf\t4\n"
