"""The text of a card on a terminal: paragraphs that fill its width, headings, emphasis.

Cards use little of Markdown. rich's own rendering knows all of it, and its import would double the time of `bestiary show`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.text import Text

_AS_IT_STANDS = re.compile(r"\s*([-*+>]\s|[|#]|\d+\.\s|```|$)|\s{4}")  # a line that begins something of its own
_EMPHASIS = re.compile(r"\*\*(?P<strong>[^*]+)\*\*|`(?P<code>[^`]+)`")


def render(markdown: str) -> Iterator[Text]:
    """The lines to print, one for each paragraph, heading, item or empty line.

    >>> [text.plain for text in render("# Cats\\n\\n**What.** They\\nsleep.\\n- a lot")]
    ['Cats', '', 'What. They sleep.', '- a lot']
    """
    paragraph: list[str] = []
    for line in markdown.splitlines():
        if paragraph and _AS_IT_STANDS.match(line):
            yield _emphasised(" ".join(paragraph))
            paragraph = []
        if line.startswith("#"):
            yield Text(line.lstrip("# "), style="bold")
        elif _AS_IT_STANDS.match(line):
            yield _emphasised(line)
        else:
            paragraph.append(line.strip())
    if paragraph:
        yield _emphasised(" ".join(paragraph))


def _emphasised(line: str) -> Text:
    text, end = Text(), 0
    for found in _EMPHASIS.finditer(line):
        text.append(line[end : found.start()])
        text.append(found["strong"] or found["code"], style="bold" if found["strong"] else "cyan")
        end = found.end()
    return text.append(line[end:])
