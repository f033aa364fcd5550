"""Real models at work: `make demo`, or `python -m bestiary.scripts.demo`."""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch.nn.functional as F  # here, so that the times below are the models' own
from PIL import Image
from rich.console import Console
from rich.table import Table

import bestiary
from bestiary.vision.drawing import draw_boxes

PHOTO, SPEECH = Path(__file__).with_name("chelsea.jpg"), Path(__file__).with_name("password.wav")
EYE, PIECE = (135, 80, 211, 156), 60  # the corners of one eye, and the side of a piece, in pixels of the photo
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
    folder = Path(mkdtemp(prefix="bestiary-"))
    classify = name_the_animal(folder)
    find_the_other_eye(classify.embedder(), folder)
    compare_sentences()
    write_down_speech(folder)
    ask_a_question()


def name_the_animal(folder: Path) -> Any:
    """The five likeliest of the 1,000 classes of ImageNet, and what in the photo speaks for the first."""
    console.rule("efficientnet-lite0: what is in this photo?", align="left")
    classify, loading = timed(lambda: bestiary.load("efficientnet-lite0"))
    labels, computing = timed(lambda: classify(PHOTO))

    console.print(PHOTO)
    table = Table(box=None, show_header=False)
    for label in labels[:5]:
        table.add_row(label.name, f"{label.score:.1%}", "█" * round(40 * label.score))
    console.print(table)

    explanation = classify.explain(PHOTO)
    explanation.plot().save(folder / "explained.png")
    console.print(f"\nWhat speaks for {labels[0].name}? Drawn in {folder / 'explained.png'}, and roughly:", soft_wrap=True)
    for row in F.adaptive_avg_pool2d(explanation.values[None], (13, 40))[0].tolist():
        console.print("".join(" ░▒▓█"[min(int(5 * value), 4)] for value in row).rstrip())
    tell_costs(classify, loading, computing)
    return classify


def find_the_other_eye(embed: Any, folder: Path) -> None:
    """Of many pieces of the photo's right half, the one whose vector is nearest to that of the eye in its left half."""
    console.rule("efficientnet-lite0, its vectors: where is the other eye?", align="left")
    photo = Image.open(PHOTO)
    lefts, tops = range(photo.width // 2, photo.width - PIECE, 15), range(0, photo.height - PIECE, 30)
    boxes = [(left, top, left + PIECE, top + PIECE) for left in lefts for top in tops]
    (match,), computing = timed(lambda: embed.search(photo.crop(EYE), map(photo.crop, boxes), top=1))

    draw_boxes(photo, [EYE, boxes[match.index]], ["an eye", "the other"]).save(folder / "eyes.png")
    console.print(f"Of {len(boxes)} pieces, the one most like an eye: {folder / 'eyes.png'}", soft_wrap=True)
    console.print(f"\ncomputed in {computing:.2f} s\n")


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


def write_down_speech(folder: Path) -> None:
    """What is said in a recording, each word at its time, and as subtitles."""
    console.rule("whisper-tiny.en: what is said in this recording?", align="left")
    recognize, loading = timed(lambda: bestiary.load("whisper-tiny.en", precision="int8"))
    transcript, computing = timed(lambda: recognize(SPEECH, words=True))

    console.print(SPEECH)
    for word in transcript.words:
        console.print(f"{word.start:5.2f} s {' ' * round(16 * word.start)}[bold]{word.text}[/bold]")
    transcript.save(folder / "speech.srt")
    console.print(f"\nAs subtitles: {folder / 'speech.srt'}", soft_wrap=True)
    tell_costs(recognize, loading, computing)


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
