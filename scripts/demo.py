"""Real models at work: `make demo`, or `python -m bestiary.scripts.demo`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import bestiary

PHOTO = Path(__file__).with_name("chelsea.jpg")
SENTENCES = [
    "The cat sleeps on the warm windowsill.",
    "A kitten is napping in the sun.",
    "Stock markets fell sharply on Monday.",
    "Shares lost value at the start of the week.",
    "She bakes bread every Sunday morning.",
    "The telescope found a planet outside our solar system.",
]
QUERY = "Which sentence is about money?"

console = Console(highlight=False)


def main() -> None:
    name_the_animal()
    compare_sentences()


def name_the_animal() -> None:
    console.rule(f"What is on {PHOTO.name}?  [bold]efficientnet-lite0[/bold]")
    classify, loading = timed(lambda: bestiary.load("efficientnet-lite0"))
    labels, computing = timed(lambda: classify(PHOTO))

    table = Table("label", "score", box=None)
    for label in labels[:5]:
        table.add_row(label.name, f"{label.score:.1%}")
    console.print(table)
    tell_origin(classify, loading, computing)


def compare_sentences() -> None:
    console.rule("Which sentences mean the same?  [bold]minilm-l6-v2[/bold]")
    embed, loading = timed(lambda: bestiary.load("minilm-l6-v2"))
    vectors, computing = timed(lambda: embed(SENTENCES))  # (6, 384), each of length 1: their products are cosines

    table = Table("", *"123456", "", box=None)
    for number, (sentence, row) in enumerate(zip(SENTENCES, (vectors @ vectors.T).tolist(), strict=True), start=1):
        table.add_row(str(number), *(f"[{shade(cosine)}]{cosine:.2f}[/]" for cosine in row), sentence)
    console.print(table)

    nearest = int((vectors @ embed(QUERY)).argmax())
    console.print(f"{QUERY}  → [bold]{SENTENCES[nearest]}[/bold]")
    tell_origin(embed, loading, computing)


def tell_origin(task: Any, loading: float, computing: float) -> None:
    """The time it took, and where each file came from and lies now."""
    console.print(f"\n[dim]loaded and verified in {loading:.2f} s, computed in {computing * 1000:.0f} ms[/dim]")
    for name, file in task.provenance.items():
        console.print(f"[dim]{name} from {file.origin}[/dim]")
    console.print()


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What the work gives and the seconds it took."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def shade(cosine: float) -> str:
    return "bold green" if cosine > 0.4 else "dim" if cosine < 0.1 else "default"


if __name__ == "__main__":
    main()
