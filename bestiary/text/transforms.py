"""From texts to token ids, built from the card alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as Rules

from bestiary.errors import InputError, LayoutError


class Tokenizer:
    """Texts to token ids by a `tokenizer.json`.

    Texts longer than `max_length` tokens, special ones included, are cut; the first time that happens a warning says so.
    """

    def __init__(self, path: Path, max_length: int):
        try:
            self.rules = Rules.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing narrower
            raise LayoutError(f"{path.name} is not a tokenizer.json: {str(error).splitlines()[0]}\nfetch it again") from error
        self.rules.no_padding()
        self.rules.enable_truncation(max_length)
        self.max_length = max_length
        self._warned = False

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text. Raises InputError for what is not a text."""
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"input {index} is not a text but {type(text).__name__}\ngive a str, or a list of them")
        encodings = self.rules.encode_batch(texts)
        if not self._warned and any(encoding.overflowing for encoding in encodings):
            self._warned = True
            warnings.warn(f"texts over {self.max_length} tokens are cut (this is said once)", stacklevel=4)
        return [encoding.ids for encoding in encodings]
