"""Real models at work: `make demo`, or `python -m bestiary.scripts.demo`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch  # noqa: F401  imported here, so that the times below are the models' own
from rich.console import Console
from rich.table import Table

import bestiary

PHOTO = Path(__file__).with_name("chelsea.jpg")
SENTENCES = [
    "The cat sleeps on the warm windowsill.",
    "A kitten is napping in the sun.",
    "Stock markets fell sharply on Monday.",
    "Shares lost value early in the week.",
    "She bakes bread every Sunday morning.",
    "The telescope found a new planet.",
]
QUERY = "Which sentence is about money?"
QUESTION = "What is gravity? Answer in one sentence."

console = Console(highlight=False)


def main() -> None:
    name_the_animal()
    compare_sentences()
    ask_a_question()


def name_the_animal() -> None:
    """The five likeliest of the 1,000 classes of ImageNet."""
    console.rule("efficientnet-lite0: what is in this photo?", align="left")
    classify, loading = timed(lambda: bestiary.load("efficientnet-lite0"))
    labels, computing = timed(lambda: classify(PHOTO))

    console.print(PHOTO)
    table = Table(box=None, show_header=False)
    for label in labels[:5]:
        table.add_row(label.name, f"{label.score:.1%}", "█" * round(40 * label.score))
    console.print(table)
    tell_costs(classify, loading, computing)


def compare_sentences() -> None:
    """The similarity of every sentence to every other, and the nearest one to a question."""
    console.rule("minilm-l6-v2: which sentences mean nearly the same?", align="left")
    embed, loading = timed(lambda: bestiary.load("minilm-l6-v2"))
    vectors, computing = timed(lambda: embed([*SENTENCES, QUERY]))  # (7, 384), each of length 1: products are cosines
    sentences, query = vectors[:-1], vectors[-1]

    table = Table("", *"123456", "", box=None, padding=(0, 1, 0, 0))
    for number, (text, similarities) in enumerate(zip(SENTENCES, (sentences @ sentences.T).tolist(), strict=True), start=1):
        table.add_row(str(number), *map(shaded, similarities), text)
    console.print(table)
    console.print(f"\n{QUERY} [bold]{SENTENCES[(sentences @ query).argmax()]}[/bold]")
    tell_costs(embed, loading, computing)


def ask_a_question() -> None:
    """An answer of a small language model, shown as it is written."""
    console.rule("smollm2-135m-instruct: a conversation", align="left")
    model, loading = timed(lambda: bestiary.load("smollm2-135m-instruct"))
    console.print(f"{QUESTION}\n")

    def answer() -> None:
        for piece in model.stream_chat(QUESTION, max_new_tokens=80):
            console.print(piece, end="", style="bold", markup=False, soft_wrap=True)

    _, computing = timed(answer)
    console.print()
    tell_costs(model, loading, computing)


def tell_costs(task: Any, loading: float, computing: float) -> None:
    """How long it took, and where the bytes of each file came from."""
    console.print(f"\nloaded in {loading:.2f} s, computed in {computing:.2f} s; every byte verified:")
    for fetched in task.provenance.values():
        size, digest = f"{fetched.file.size / 1e6:.1f} MB", fetched.file.sha256[:12]
        console.print(f"  {fetched.file.name} ({size}, sha256 {digest}…): {fetched.origin}", style="dim", soft_wrap=True)
    console.print()


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What the work gives, and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def shaded(similarity: float) -> str:
    style = "bold green" if similarity > 0.4 else "dim"
    return f"[{style}]{similarity:5.2f}[/]"


if __name__ == "__main__":
    main()
