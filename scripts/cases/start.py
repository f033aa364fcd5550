"""How long a new process takes: to the first embedding, to a listing, to an import."""

from __future__ import annotations

import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bestiary.scripts.benchmark import Bench, Row, limit
from bestiary.scripts.cases.processes import output

OURS = "import bestiary; bestiary.load('minilm-l6-v2', device='cpu')(['a cat'])"
PEER = "import sys; from sentence_transformers import SentenceTransformer as S; S(sys.argv[1], device='cpu').encode(['a cat'])"


def start(bench: Bench) -> Iterator[Row]:
    """A new process to its first embedding, the files lying ready."""
    import bestiary

    with tempfile.TemporaryDirectory() as folder:
        bestiary.load("minilm-l6-v2", device="cpu").export(folder, layout="transformers")
        times = bench.alternate(
            lambda: output([sys.executable, "-c", OURS]),
            lambda: output([sys.executable, "-c", PEER, folder]),
        )
    yield times.share("a new process to its first embedding", "sentence-transformers", at_most=0.35)


def cli_start(bench: Bench) -> Iterator[Row]:
    """The listing verbs as a person calls them, and the import less what an empty interpreter takes."""
    program = str(Path(sysconfig.get_path("scripts"), "bestiary"))
    for arguments in (["ls"], ["show", "minilm-l6-v2"]):
        bench.say(" ".join(arguments))
        seconds = bench.repeat(lambda arguments=arguments: output([program, *arguments]))
        yield limit(f"bestiary {' '.join(arguments)}", seconds, unit="s", at_most=0.15)
    bench.say("import bestiary")
    times = bench.alternate(
        lambda: output([sys.executable, "-c", "import bestiary"]),
        lambda: output([sys.executable, "-c", "pass"]),
    )
    yield times.difference("import bestiary", "an empty interpreter", at_most=0.05)
