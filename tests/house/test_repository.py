"""What holds for the repository as a whole."""

import ast
import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bestiary
import hubconf
from bestiary.audio.letters import LettersPreprocess
from bestiary.audio.recognition.whisper import WhisperPreprocess
from bestiary.audio.tasks.classification import AudioClassifierPreprocess
from bestiary.audio.tasks.pitch import PitchPreprocess
from bestiary.audio.tasks.voice import VoicePreprocess
from bestiary.hub.card import _KEYS as CARD_KEYS
from bestiary.text.tasks.answering import QuestionAnswererPreprocess
from bestiary.text.tasks.classification import TextClassifierPreprocess
from bestiary.text.tasks.embedding import EmbedderPreprocess
from bestiary.text.tasks.generation import LanguageModelPreprocess
from bestiary.text.tasks.masking import MaskFillerPreprocess
from bestiary.text.tasks.tagging import TokenClassifierPreprocess
from bestiary.text.tasks.translation import TranslatorPreprocess
from bestiary.vision.tasks.embedding import ImageEmbedderPreprocess
from bestiary.vision.transforms import Preprocess as ImagePreprocess
from tests.house.documents import FENCE, ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
IMPORTED_AS = {"pyyaml": "yaml", "pillow": "PIL"}


def test_the_changelog_opens_with_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## \[(?P<version>\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
    assert first and first["version"] == bestiary.__version__


def test_the_readme_opens_with_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = re.search(r"^```sh\n(?P<commands>.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert first and [line.partition("#")[0].strip() for line in first["commands"].splitlines()] == ["make demo", "make test"]


def test_every_target_that_make_names_is_there() -> None:
    printed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    targets = re.findall(r"^make (\w+)", printed, re.MULTILINE)
    subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, capture_output=True, check=True)
    assert {"demo", "test"} <= set(targets)


def test_every_relative_link_of_a_document_leads_somewhere() -> None:
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in [*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/README.md")]
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", FENCE.sub("", document.read_text(encoding="utf-8")))
        if not (document.parent / target).exists()
    ]
    assert broken == []


def test_every_key_of_a_card_is_explained() -> None:
    text = (ROOT / "model_cards" / "README.md").read_text(encoding="utf-8")
    sections = dict(section.split("\n", maxsplit=1) for section in text.split("\n## ")[1:])
    keys, preprocessing = sections["Under `bestiary`"], sections["Preprocessing"]
    assert re.findall(r"^\| `(\w+)` \|", keys, re.MULTILINE) == list(CARD_KEYS)
    kinds = (
        *(EmbedderPreprocess, TextClassifierPreprocess, TokenClassifierPreprocess, MaskFillerPreprocess),
        *(QuestionAnswererPreprocess, LanguageModelPreprocess, TranslatorPreprocess, ImagePreprocess),
        *(ImageEmbedderPreprocess, LettersPreprocess, WhisperPreprocess, AudioClassifierPreprocess),
        *(PitchPreprocess, VoicePreprocess),
    )
    fields = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    assert fields <= set(re.findall(r"`(\w+)`", preprocessing))


def test_every_third_party_module_is_a_declared_dependency() -> None:
    """A module that is there only because another package brings it breaks when that package drops it."""
    known = declared_modules() | {"bestiary"} | sys.stdlib_module_names
    undeclared = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in (ROOT / "bestiary").rglob("*.py")
        for module in imported_modules(path)
        if module not in known
    }
    assert undeclared == set()


def test_torch_hub_asks_for_declared_dependencies_only() -> None:
    assert set(hubconf.dependencies) <= declared_modules()


def declared_modules() -> set[str]:
    """The modules of the dependencies and of the extras that are for users."""
    extras = PROJECT["project"]["optional-dependencies"]
    listed = [*PROJECT["project"]["dependencies"], *(line for name in extras if name != "dev" for line in extras[name])]
    declared = {re.split(r"[^\w-]", line)[0].lower().replace("-", "_") for line in listed}
    return {IMPORTED_AS.get(name, name) for name in declared}


def imported_modules(path: Path) -> Iterator[str]:
    """The top-level names of all that a file imports absolutely."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
