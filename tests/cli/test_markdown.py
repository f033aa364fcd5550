"""The text of a card on a terminal."""

import pytest

from bestiary.cli.markdown import render


@pytest.mark.parametrize(
    ("markdown", "lines"),
    [
        ("# Cats\n\n**What.** They\nsleep.", ["Cats", "", "What. They sleep."]),
        ("They:\n- sleep\n- eat\n\nThat is all", ["They:", "- sleep", "- eat", "", "That is all"]),
        ("1. wake\n2. sleep", ["1. wake", "2. sleep"]),
        ("| a | b |\n|---|---|", ["| a | b |", "|---|---|"]),
        ("    code  stays", ["    code  stays"]),
        ("a ** b and a lone ` mark", ["a ** b and a lone ` mark"]),
        ("", []),
    ],
)
def test_paragraphs_flow_and_the_rest_stands(markdown: str, lines: list[str]) -> None:
    assert [text.plain for text in render(markdown)] == lines


def test_emphasis_is_shown_and_not_spelt() -> None:
    (text,) = render("a **bold** word and `code`")
    assert text.plain == "a bold word and code"
    assert [(text.plain[span.start : span.end], span.style) for span in text.spans] == [("bold", "bold"), ("code", "cyan")]
