"""What a person sees: tables, no colours where none are wanted, nothing that a card smuggles in."""

import re

from tests.cli.conftest import Zoo

SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
EVIL = "A title \x1b]0;pwned\x07 in \x1b[31mred\x1b[0m and back\u202eward."


def test_a_listing_on_a_terminal_is_a_table_for_people(zoo: Zoo) -> None:
    zoo.add("sphinx", {"sphinx.safetensors": bytes(1_234_567)})
    code, shown = zoo.terminal("ls", "sphinx")
    assert code == 0
    heading, line = SEQUENCE.sub("", shown).strip().splitlines()
    assert heading.split()[:3] == ["name", "task", "size"]
    assert "1.2 MB" in line


def test_colours_go_with_no_color(zoo: Zoo) -> None:
    zoo.add("sphinx", {"sphinx.safetensors": b"riddle"}, text="# Sphinx\n\nIt asks `riddles`.")
    coloured = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-9]|9[0-9])[0-9;]*m")
    assert coloured.search(zoo.terminal("show", "sphinx")[1])
    zoo.environment["NO_COLOR"] = "1"
    assert not coloured.search(zoo.terminal("show", "sphinx")[1])


def test_show_on_a_terminal_tells_facts_files_and_the_text(zoo: Zoo) -> None:
    zoo.add("sphinx", {"sphinx.safetensors": b"riddle"}, text="# Sphinx\n\nIt asks `riddles`.")
    shown = SEQUENCE.sub("", zoo.terminal("show", "sphinx")[1])
    assert re.search(r"task +text-embedding", shown)
    assert re.search(r"sphinx\.safetensors +weights +6 B", shown)
    assert "It asks riddles." in shown
    assert "# Sphinx" not in shown


def test_a_card_cannot_steer_the_terminal(zoo: Zoo) -> None:
    # YAML itself refuses control characters, the text below the front matter may hold any.
    zoo.add("sphinx", {"sphinx.safetensors": b"riddle"}, text=EVIL)
    zoo.environment["NO_COLOR"] = "1"
    _, shown = zoo.terminal("show", "sphinx")
    assert "\x1b]" not in shown and "\x07" not in shown and "\x1b[31m" not in shown and "\u202e" not in shown
    assert "A title" in shown


def test_markup_of_the_table_is_not_a_card_s_to_write(zoo: Zoo) -> None:
    zoo.add("sphinx", {"sphinx.safetensors": b"riddle"}, license='"[red]mit[/red]"')
    assert "[red]mit[/red]" in SEQUENCE.sub("", zoo.terminal("ls", "sphinx")[1])


def test_pull_shows_a_bar_on_a_terminal(zoo: Zoo, served: str) -> None:
    zoo.add("sphinx", {"sphinx.safetensors": bytes(2_000_000)}, source=f"url: {served}")
    code, shown = zoo.terminal("pull", "sphinx")
    assert code == 0
    assert "2.0/2.0 MB" in SEQUENCE.sub("", shown)
