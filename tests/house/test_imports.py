"""What is imported late: the package and the listing verbs start without torch."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "torchaudio", "transformers", "datasets", "numpy"}


def modules_after(program: str) -> set[str]:
    """The top-level modules that a new process has imported once the program is through."""
    report = "import sys; print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    completed = subprocess.run(
        [sys.executable, "-c", f"{program}\n{report}"], capture_output=True, encoding="utf-8", check=True, timeout=120
    )
    return set(completed.stdout.splitlines()[-1].split())


def command(*arguments: str) -> str:
    """A program that runs the command line within its own process."""
    return f"from bestiary.cli import main; assert main({list(arguments)!r}) == 0"


def test_the_package_alone_imports_next_to_nothing() -> None:
    modules = modules_after("import bestiary; bestiary.__version__; bestiary.BestiaryError")
    assert not modules & (HEAVY | {"yaml", "rich", "click", "urllib3", "huggingface_hub"})


@pytest.mark.parametrize("program", ["bestiary.list_models()", "bestiary.search('cat')", "bestiary.card('minilm-l6-v2').size"])
def test_the_listing_functions_import_no_torch(program: str) -> None:
    assert not modules_after(f"import bestiary; {program}") & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), ("ls",), ("ls", "--json"), ("search", "sentences"), ("show", "minilm-l6-v2"), ("cache", "df")],
    ids=" ".join,
)
def test_the_listing_verbs_import_no_torch(arguments: tuple[str, ...]) -> None:
    assert not modules_after(command(*arguments)) & HEAVY


def test_torch_comes_with_the_first_name_that_needs_it() -> None:
    assert "torch" in modules_after("import bestiary; bestiary.build('efficientnet-lite0')")
