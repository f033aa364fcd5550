"""Letters from what a net says at every frame, against a look at every path there is."""

import math
from collections import defaultdict
from itertools import groupby, product

import pytest
import torch
import torch.nn.functional as F

from bestiary.audio.ctc import MOST, align, beam_search, greedy, places
from bestiary.errors import InputError

BLANK = 0


def frames(count, tokens, seed, sharpness=2.0):
    torch.manual_seed(seed)
    return (sharpness * torch.randn(count, tokens)).log_softmax(-1)


def left(path, blank=BLANK):
    """What a path leaves: equal neighbours once, and no blanks."""
    return tuple(token for token, _ in groupby(path) if token != blank)


def every_path(log_probabilities):
    """All paths, and the logarithm of the probability of each."""
    for path in product(range(log_probabilities.shape[1]), repeat=len(log_probabilities)):
        yield path, float(log_probabilities[torch.arange(len(path)), list(path)].sum())


@pytest.mark.parametrize("seed", range(5))
def test_greedy_is_what_the_most_probable_path_leaves(seed):
    log_probabilities = frames(6, 3, seed)
    best, _ = max(every_path(log_probabilities), key=lambda item: item[1])
    assert tuple(greedy(log_probabilities, BLANK)) == left(best)


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("seed", range(5))
def test_a_beam_that_loses_nothing_finds_every_reading_with_its_probability(seed, blank):
    log_probabilities = frames(6, 3, seed)
    expected = defaultdict(float)
    for path, log_probability in every_path(log_probabilities):
        expected[left(path, blank)] += math.exp(log_probability)
    found = beam_search(log_probabilities, blank, beams=10_000, least=0)
    assert {tuple(tokens): math.exp(log_probability) for tokens, log_probability in found} == pytest.approx(expected, rel=1e-5)
    assert [log_probability for _, log_probability in found] == sorted((found.log_probability for found in found), reverse=True)


def test_the_best_reading_may_be_none_of_the_best_path():
    """Two paths to a letter together outweigh the one to none."""
    log_probabilities = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    assert greedy(log_probabilities, BLANK) == []
    assert beam_search(log_probabilities, BLANK)[0].tokens == [1]


def log_probability_of(tokens, log_probabilities):
    """By torch, from all the paths."""
    count = len(log_probabilities)
    return -float(F.ctc_loss(log_probabilities[:, None], torch.tensor([tokens]), (count,), (len(tokens),), reduction="sum"))


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_what_torchs_loss_says_of_a_reading(seed):
    log_probabilities = frames(14, 4, seed, sharpness=4.0)
    for tokens, log_probability in beam_search(log_probabilities, BLANK, beams=1000, least=0)[:5]:
        assert log_probability == pytest.approx(log_probability_of(tokens, log_probabilities), abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_a_usual_beam_finds_a_better_reading_than_the_best_path_leaves(seed):
    log_probabilities = frames(40, 4, seed, sharpness=1.0)
    best = beam_search(log_probabilities, BLANK)[0]
    reached = log_probability_of(best.tokens, log_probabilities)
    assert best.log_probability <= reached + 1e-3  # what fell out of the beam is missing
    assert reached > log_probability_of(greedy(log_probabilities, BLANK), log_probabilities)


def test_long_sounds_do_not_run_out_of_numbers():
    log_probabilities = frames(3000, 5, 0)
    best = beam_search(log_probabilities, BLANK, beams=4)[0]
    assert math.isfinite(best.log_probability) and best.log_probability < math.log(1e-300)


def test_of_nothing_nothing_is_read():
    assert greedy(torch.empty(0, 3), BLANK) == []
    assert beam_search(torch.empty(0, 3), BLANK)[0] == ([], 0.0)
    assert align(torch.empty(0, 3), [], BLANK) == []


@pytest.mark.parametrize("tokens", [[1], [1, 2], [1, 1], [2, 1, 2]])
@pytest.mark.parametrize("seed", range(5))
def test_alignment_is_the_most_probable_path_that_leaves_the_tokens(tokens, seed):
    log_probabilities = frames(6, 3, seed)
    paths = ((path, value) for path, value in every_path(log_probabilities) if left(path) == tuple(tokens))
    best, _ = max(paths, key=lambda item: item[1])
    runs, place = [], 0
    for token, run in groupby(best):
        count = len(list(run))
        mean = float(log_probabilities[place : place + count, token].mean())
        runs.append((token, place, place + count, pytest.approx(mean, abs=1e-5)))
        place += count
    assert [tuple(span) for span in align(log_probabilities, tokens, BLANK)] == [run for run in runs if run[0] != BLANK]


def test_a_blank_that_is_not_the_first_label():
    spans = align(torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]]).log(), [0, 1], blank=2)
    assert [span[:3] for span in spans] == [(0, 0, 1), (1, 2, 3)]


def test_a_text_that_the_frames_have_no_place_for_is_refused():
    assert places([1, 1, 2, 2]) == 6
    assert len(align(frames(6, 3, 0), [1, 1, 2, 2], BLANK)) == 4
    with pytest.raises(InputError, match="a text of 4 letters is longer than the sound allows, which has 5 frames"):
        align(frames(5, 3, 0), [1, 1, 2, 2], BLANK)


def test_more_than_can_be_counted_is_refused_before_anything_is_allocated():
    count = 70_000
    assert count * (2 * 40_000 + 1) > MOST
    with pytest.raises(InputError, match="too much to align at once"):
        align(torch.empty(1, 3).expand(count, 3), [1, 2] * 20_000, BLANK)
