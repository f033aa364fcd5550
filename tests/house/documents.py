"""The code blocks of a Markdown document, to be run."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^```(?P<language>\w+)(?: (?P<path>\S+))?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block. `path`, after the language, names the file that the block is; `line` is where its text begins."""

    language: str
    path: str | None
    body: str
    line: int


def blocks(document: str) -> list[Block]:
    """All fenced blocks of a document at the top of the repository, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        Block(match["language"], match["path"], match["body"], text.count("\n", 0, match.start("body")) + 1)
        for match in FENCE.finditer(text)
    ]


def commands(block: Block) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown below it."""
    parts = re.split(r"^\$ ", block.body, flags=re.MULTILINE)
    assert parts[0] == "", f"line {block.line}: a console block begins with a command"
    return [(command, output) for command, _, output in (part.partition("\n") for part in parts[1:])]
