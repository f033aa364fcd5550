"""What may follow in a transcript with times (Radford et al. 2022, arXiv:2212.04356, section 2.3 and 4.5; openai's decoding)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bestiary.audio.recognition.vocabulary import Vocabulary

LATEST_START = 50  # steps of 0.02 s from the beginning of a window within which its first time lies


class TimestampRules:
    """Puts out of reach what cannot follow.

    Every segment is text between two times, which never go back; a time begins the transcript, and one ends it or is followed
    by that of the next segment. Where all times together are likelier than any token of text, a time is next.
    """

    def __init__(self, vocabulary: Vocabulary, device: torch.device):
        self.vocabulary = vocabulary
        self.unspoken = torch.tensor(vocabulary.unspoken, device=device)

    def __call__(self, logits: Tensor, beginnings: Sequence[Sequence[int]]) -> Tensor:
        """Logits (rows, vocabulary), fp32, of what may follow the new tokens of each row."""
        logits = logits.float().index_fill(1, self.unspoken, -torch.inf)
        texts, times = logits[:, : self.vocabulary.times], logits[:, self.vocabulary.times :]  # views
        for row, tokens in enumerate(beginnings):
            if not tokens:
                texts[row] = -torch.inf
                times[row, LATEST_START + 1 :] = -torch.inf
            else:
                self._follow(tokens, texts[row], times[row])
        wanted = times.logsumexp(-1) > texts.amax(-1)  # (rows,)
        texts.masked_fill_(wanted[:, None], -torch.inf)
        return logits

    def _follow(self, tokens: Sequence[int], texts: Tensor, times: Tensor) -> None:
        """One row, after at least one new token."""
        first = self.vocabulary.times
        last = next((token for token in reversed(tokens) if token >= first), first)
        if tokens[-1] < first:  # within a segment, which has a length
            times[: last - first + 1] = -torch.inf
        elif len(tokens) > 1 and tokens[-2] < first:  # a segment has ended: the next begins then or later, or there is none
            texts[: self.vocabulary.end] = -torch.inf
            times[: last - first] = -torch.inf
        else:  # a segment has begun
            times[:] = -torch.inf
