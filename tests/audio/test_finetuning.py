"""A small net learns to tell sounds apart; the script, from the command line to a model that anyone loads."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import bestiary
from bestiary.audio.augmentation import Augmentation
from bestiary.audio.finetuning import PRESETS, AudioClassification, Augmented, Prepared, Sounds, give_one_label
from bestiary.cli import main
from bestiary.core.tuning.recipe import Recipe
from bestiary.errors import InputError
from bestiary.hub.card import read_card
from bestiary.loading import load_for

TINY = {"frames": 64, "mels": 32, "mel_stride": 16, "frame_stride": 16, "layers": 2, "width": 32, "heads": 4, "hidden": 64}
SIZES = [word for name, value in TINY.items() for word in ("--config", f"{name}={value}")]
PITCHES = {"high": 2000.0, "low": 200.0, "middle": 700.0}  # Hz


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def classify():
    return load_for("ast-audioset", "audio-classification", ["a", "b"], pretrained=False, config=TINY)


def tone(pitch: float, seed: int, seconds: float = 0.7) -> np.ndarray:
    time = np.arange(round(16_000 * seconds)) / 16_000
    noise = np.random.default_rng(seed).normal(size=len(time)) * 0.01
    return (0.3 * np.sin(2 * np.pi * pitch * time + seed) + noise).astype(np.float32)


def tones(count: int = 8) -> None:
    for name, pitch in PITCHES.items():
        for number in range(count):
            path = Path("tones", name, f"{number}.wav")
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(pitch, number), 16_000)


def row(samples: np.ndarray, label: int) -> dict:
    return {"audio": {"array": samples, "sampling_rate": 16_000}, "label": label}


def test_batches_follow_from_their_seeds(classify):
    rows = [row(tone(300, 1, 2.0), 0), row(tone(900, 2, 0.1), 1)]
    change = Augmented(classify.hearing, classify.rate, PRESETS["strong"])
    first, again, other = change(rows, [1, 2]), change(rows, [1, 2]), change(rows, [3, 2])
    assert first.inputs[0].shape == (2, 64, 32) and first.labels.tolist() == [0, 1]
    assert torch.equal(first.inputs[0], again.inputs[0])
    assert not torch.equal(first.inputs[0][0], other.inputs[0][0]) and torch.equal(first.inputs[0][1], other.inputs[0][1])


def test_validation_hears_the_middle(classify):
    samples = np.concatenate([tone(300, 1, 0.65), tone(1000, 1, 0.65), tone(3000, 1, 0.65)])
    heard = Prepared(classify.hearing, classify.rate)([row(samples, 1)], [0]).inputs[0]
    expected = Prepared(classify.hearing, classify.rate)([row(samples[10400 - 80 : 10400 - 80 + 10480], 1)], [0]).inputs[0]
    assert heard[0].argmax(-1)[32] == expected[0].argmax(-1)[32]


def test_sounds_with_no_change_are_as_they_are(classify):
    rows = [row(tone(300, 1, 0.5), 0)]
    plain = Augmented(classify.hearing, classify.rate, PRESETS["none"])(rows, [7])
    assert torch.equal(plain.inputs[0], Prepared(classify.hearing, classify.rate)(rows, [0]).inputs[0])


def test_the_loss_is_that_of_the_classes_and_masks_change_it(classify):
    inputs = Sounds((torch.randn(3, 64, 32),), torch.tensor([0, 1, 1]))
    how = {"recipe": Recipe(device="cpu"), "steps": 1}
    plain = AudioClassification(classify, PRESETS["none"], **how)
    expected = torch.nn.functional.cross_entropy(classify.net(inputs.inputs[0]), inputs.labels)
    assert torch.allclose(plain.loss(inputs), expected, atol=1e-6)
    masked = AudioClassification(classify, Augmentation(frequency_width=30, time_width=60), **how)
    torch.manual_seed(0)
    assert not torch.allclose(masked.loss(inputs), expected, atol=1e-4)
    values, count = plain.measures(inputs)
    right = (classify.net(inputs.inputs[0]).argmax(-1) == inputs.labels).float().mean()
    assert count == 3 and values["val_accuracy"] == right


def test_a_sound_has_one_label_whatever_the_base_said(classify):
    assert classify.card.preprocess["scores"] == "sigmoid"
    give_one_label(classify)
    assert classify.card.preprocess == {**classify.card.preprocess, "scores": "softmax", "features": "filterbank"}


def test_the_script(capsys, folder):
    tones()
    asked = ["finetune", "ast-audioset", "--from-scratch", *SIZES, "--data", "tones/", "-o", "pitches", "--epochs", "12"]
    assert main([*asked, "--batch-size", "4", "--workers", "0", "--device", "cpu", "--lr", "3e-3", "--decay", "1"]) == 0
    told = capsys.readouterr().err
    assert "22 rows to learn from, 2 to validate" in told and "epoch 12 of 12: " in told
    classify = bestiary.load("./pitches")
    assert classify.labels == ("high", "low", "middle") and classify.preprocess.scores == "softmax"
    for name, pitch in PITCHES.items():
        assert classify(tone(pitch, 99, 1.5), top=1)[0].name == name
    card = read_card(folder / "pitches" / "README.md")
    assert card.config["width"] == 32 and card.metadata["base_model"] == "ast-audioset"
    accuracy = card.metrics[0]
    assert main([*accuracy.command.split()[1:], "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["evaluations"][0]
    assert again["metrics"]["accuracy"] == pytest.approx(accuracy.value, abs=1e-5)


@pytest.mark.full
def test_languages_are_told_apart(folder):
    script = import_module("bestiary.scripts.finetune_audio_classifier")
    told = " ".join(script.__doc__.replace("\\\n", " ").split())
    command = told[told.index("ast-audioset --from-scratch") : told.index(" The data is")].split()
    assert main(["finetune", *command]) == 0
    card = read_card(folder / "languages" / "README.md")
    assert card.metrics[0].dataset == "telephone-prompts, split test" and card.metrics[0].value >= 0.9


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (SIZES, "leave --config out, or begin --from-scratch"),
        (["--from-scratch", "--config", "depth=3"], "has no depth"),
        (["--from-scratch", "--config", "layers"], "'layers' sets nothing"),
    ],
)
def test_sizes_that_cannot_be_had(capsys, options, complaint):
    tones(2)
    assert main(["finetune", "ast-audioset", "--data", "tones/", "-o", "out", *options]) == 11
    assert complaint in capsys.readouterr().err and not Path("out").exists()


def test_a_corrupt_sound_is_named(capsys):
    tones(3)
    Path("tones/low/1.wav").write_bytes(b"RIFF no sound")
    asked = ["finetune", "ast-audioset", "--from-scratch", *SIZES, "--data", "tones/", "-o", "out", "--epochs", "1"]
    assert main([*asked, "--workers", "0", "--device", "cpu"]) == 11
    assert "low/1.wav" in capsys.readouterr().err


def test_a_net_that_has_no_classes_is_refused():
    with pytest.raises(InputError, match="no num_classes"):
        load_for("silero-vad", "audio-classification", ["a", "b"], pretrained=False)
