"""Completion, as a shell asks for it."""

import pytest

from tests.cli.conftest import Zoo


def completed(zoo: Zoo, words: str) -> list[str]:
    """What bash is offered for the last of these words."""
    count = len(words.split(" ")) - 1
    zoo.environment.update({"_BESTIARY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)})
    return [line.partition(",")[2] for line in zoo.run().stdout.split()]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("bestiary sho", ["show"]),
        ("bestiary show sph", ["sphinx"]),
        ("bestiary pull sph", ["sphinx"]),
        ("bestiary cache pr", ["prune"]),
        ("bestiary benchmark embed-f", ["embed-fp32", "embed-fast"]),
        ("bestiary ls --ta", ["--task"]),
    ],
)
def test_verbs_names_and_options_complete(zoo: Zoo, words: str, offered: list[str]) -> None:
    zoo.add("sphinx", {"sphinx.safetensors": b"riddle"})
    assert completed(zoo, words) == offered


def test_a_broken_setting_completes_to_nothing(zoo: Zoo) -> None:
    zoo.environment["BESTIARY_CARDS"] = str(zoo.folder / "nowhere")
    assert completed(zoo, "bestiary show sph") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_calls_back(zoo: Zoo, shell: str) -> None:
    script = zoo.run("completion", shell)
    assert script.returncode == 0
    assert "_BESTIARY_COMPLETE" in script.stdout
