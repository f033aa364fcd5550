"""Windows of a long sound: which of them are read together."""

import pytest
import torch

from bestiary.audio.recognition.cuts import whole
from bestiary.audio.recognition.long import Hearing, read_cuts
from bestiary.audio.recognition.reader import Options, Reading
from bestiary.audio.recognition.transcript import Segment

RATE = 10
CUTS = [whole(torch.ones(20), RATE, start=20 * number) for number in range(5)]  # two seconds each


class Listener:
    """A reader to which every window says its length, in French."""

    rate, seconds = RATE, 30.0

    def __init__(self, multilingual):
        self.multilingual = multilingual
        self.read_at_once = []

    def read(self, windows, options):
        self.read_at_once.append([window.language for window in windows])
        return [Reading((Segment(0, 2, str(len(window.samples))),), "fr", 2.0) for window in windows]


@pytest.mark.parametrize(
    ("multilingual", "options", "expected"),
    [
        (True, {}, [[None], ["fr"] * 3, ["fr"]]),  # what the first is tells what the others are
        (True, {"language": "fr"}, [["fr"] * 3, ["fr"] * 2]),
        (False, {}, [[None] * 3, ["fr"] * 2]),
        (False, {"condition_on_previous": True}, [[None], *[["fr"]] * 4]),
    ],
)
def test_windows_are_read_together_as_soon_as_it_is_known_what_is_spoken(multilingual, options, expected):
    reader = Listener(multilingual)
    segments = list(read_cuts(reader, iter(CUTS), Hearing(Options(**options)), 3))
    assert reader.read_at_once == expected
    assert [(segment.start, segment.text) for segment in segments] == [(2.0 * number, "20") for number in range(5)]
