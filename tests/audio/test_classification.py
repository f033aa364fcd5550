"""Sounds to labels and vectors: long and short ones, search, heads, the command line."""

import json

import numpy as np
import pytest
import soundfile
import torch

import bestiary
from bestiary.audio.hearing import HearingPreprocess, Spoken, hearing_of
from bestiary.audio.sound import read_sound
from bestiary.audio.transforms import Filterbank
from bestiary.audio.wav2vec2 import Wav2Vec2, Wav2Vec2Config
from bestiary.cli import main
from bestiary.errors import InputError, LayoutError
from bestiary.hub.card import Card
from bestiary.loading import SAVER
from bestiary.table import find_architecture, find_task
from tests.audio.voices import LONG, SHORT

CONFIG = {"frames": 64, "mels": 32, "layers": 2, "width": 32, "heads": 4, "hidden": 48, "num_classes": 5}
PIECE = 400 + 63 * 160  # samples that such a net hears at once
NAMES = ("speech", "music", "bark", "rain", "horn")


def task(kind, architecture="ast", config=CONFIG, labels=NAMES, **preprocess):
    made = find_architecture(architecture)
    torch.manual_seed(0)
    net = made.build(made.configure(config)).eval()
    for parameter in net.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    card = Card(
        **{"name": "tiny", "task": kind, "license": "mit", "architecture": architecture, "config": config, "files": ()},
        **{"sources": (), "preprocess": preprocess, "labels": labels, "checked": "parity", "layout": "native"},
    )
    return find_task(kind)(net, card, {}, SAVER)


@pytest.fixture(scope="module")
def classify():
    return task("audio-classification", features="filterbank")


@pytest.fixture(scope="module")
def embed(classify):
    return classify.embedder()


def scores(labels):
    return torch.tensor([dict(labels)[name] for name in NAMES])


@torch.no_grad()
def test_scores_are_those_of_the_net(classify):
    samples = read_sound(SHORT, 16_000)[:PIECE]
    expected = classify.net(Filterbank(mels=32, frames=64)(samples)[None]).softmax(-1)[0]
    found = classify(samples)
    assert torch.allclose(scores(found), expected, atol=1e-6)
    assert [label.score for label in found] == sorted((label.score for label in found), reverse=True)
    assert classify(samples, top=2) == found[:2]


@torch.no_grad()
def test_scores_of_which_several_may_be_high(classify):
    several = task("audio-classification", features="filterbank", scores="sigmoid")
    samples = read_sound(SHORT, 16_000)[:PIECE]
    expected = classify.net(Filterbank(mels=32, frames=64)(samples)[None]).sigmoid()[0]
    assert torch.allclose(scores(several(samples)), expected, atol=1e-6)


def test_a_long_sound_is_heard_in_pieces_whose_scores_are_averaged(classify):
    samples = read_sound(LONG, 16_000)[: round(2.5 * PIECE)]
    starts = [0, round(0.75 * PIECE), len(samples) - PIECE]
    mean = torch.stack([scores(classify(samples[start : start + PIECE])) for start in starts]).mean(0)
    assert torch.allclose(scores(classify(samples)), mean, atol=1e-6)
    assert not torch.allclose(scores(classify(samples[:PIECE])), mean, atol=1e-4)  # the pieces differ


def test_pieces_lie_evenly_over_a_sound():
    hearing = Spoken(shortest=3, longest=10)
    for length in (1, 3, 10, 11, 25, 100):
        pieces = hearing.pieces(torch.arange(1, length + 1))
        heard = torch.cat(pieces)
        assert {len(piece) for piece in pieces} == ({max(3, length)} if length <= 10 else {10})
        assert set(range(1, length + 1)) <= set(heard.tolist()) and len(pieces) == -(-length // 10)


def test_a_sound_shorter_than_a_frame_has_silence_behind_it(classify):
    assert len(classify(torch.ones(1))) == 5


def test_one_and_many_are_answered_alike(classify, embed):
    listed = classify([SHORT, LONG])
    assert len(listed) == 2 and listed[0] == classify(SHORT) and classify([]) == []
    assert next(iter(classify(iter([SHORT])))) == listed[0]
    assert torch.equal(embed([SHORT, LONG])[0], embed(SHORT)) and embed([]).shape == (0, 32)


def test_a_new_head_has_new_names(tmp_path):
    classify = task("audio-classification", features="filterbank")
    classify.replace_head(["cat", "dog"])
    assert {label.name for label in classify(SHORT)} == {"cat", "dog"}
    classify.save(tmp_path / "saved")
    assert bestiary.load(tmp_path / "saved")(SHORT) == classify(SHORT)
    for labels in ("cat", ["cat", "cat"], [1]):
        with pytest.raises(InputError, match="different strings"):
            classify.replace_head(labels)


def test_vectors_are_of_length_1_and_nearest_to_their_own(embed, tmp_path):
    vectors = embed([SHORT, LONG])
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2)) and embed.similarity(SHORT, [SHORT, LONG])[0, 0] > 0.999
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).normal(size=20_000) / 10, 16_000)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "speech.wav").write_bytes(SHORT.read_bytes())
    best, other = embed.search(SHORT, tmp_path)
    assert best.sound == tmp_path / "below" / "speech.wav" and best.score > 0.999 > other.score
    assert [[match.index for match in found] for found in embed.search([LONG, SHORT], [SHORT, LONG], top=1)] == [[1], [0]]
    with pytest.raises(InputError, match="is no folder"):
        embed.search(SHORT, SHORT)
    with pytest.raises(InputError, match="no folder"):
        embed.search(SHORT, tmp_path / "nothing")


WAVES = {
    **{"layers": 2, "width": 32, "heads": 4, "hidden": 48, "position_kernel": 8, "position_groups": 4, "num_classes": 0},
    **{"stem_widths": (8, 12), "stem_kernels": (6, 3), "stem_strides": (3, 2)},
}


@torch.no_grad()
def test_nets_of_samples_embed_by_the_mean_of_their_frames():
    embed = task("audio-embedding", "wav2vec2", WAVES, labels=None, rate=16_000, normalize=True, seconds=0.25)
    samples = read_sound(SHORT, 16_000)[:4000]
    standard = (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()
    mean = embed.net.hidden_states(standard[None]).mean(1)[0]
    assert torch.allclose(embed(samples), mean / mean.norm(), atol=1e-5)
    assert embed(read_sound(SHORT, 16_000)).shape == (32,) and embed(torch.ones(2)).shape == (32,)


@torch.no_grad()
def test_sounds_in_a_batch_are_heard_as_alone():
    net = Wav2Vec2(Wav2Vec2Config(**WAVES)).eval()
    hearing = hearing_of(HearingPreprocess(), net.config)
    pieces = [torch.randn(500), torch.randn(300)]
    together = hearing.pooled(net, *hearing.inputs(pieces))
    for row, piece in zip(together, pieces, strict=True):
        assert torch.allclose(row, hearing.pooled(net, *hearing.inputs([piece]))[0], atol=1e-5)


def test_features_that_the_net_does_not_take_are_refused():
    with pytest.raises(LayoutError, match="frames of mels"):
        task("audio-embedding", "wav2vec2", WAVES, labels=None, features="filterbank")
    with pytest.raises(LayoutError, match="take samples"):
        task("audio-embedding", features="waveform")
    with pytest.raises(LayoutError, match="no classes"):
        task("audio-classification", config={**CONFIG, "num_classes": 0}, features="filterbank")


def test_a_plot_has_a_bar_for_each_label(classify):
    found = classify(SHORT)
    picture = np.asarray(found.plot())
    assert picture.shape == (5 * 32, 960, 3)
    lengths = [(picture[32 * place + 3] != 255).any(axis=1).sum() for place in range(5)]
    assert lengths == sorted(lengths, reverse=True) and abs(lengths[0] - found[0].score * 960) < 2


def test_the_command_line_lists_labels(classify, capsys, tmp_path):
    classify.save(tmp_path / "tiny")
    assert main(["run", str(tmp_path / "tiny"), str(SHORT), "--json", "--save", str(tmp_path / "bars.png")]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert [row["label"] for row in rows] == [label.name for label in classify(SHORT)]
    assert (tmp_path / "bars.png").stat().st_size > 500
