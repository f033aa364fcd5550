"""Folders of Vision Transformers as transformers publishes them: classes, and how images are prepared."""

import json

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image

import bestiary
from bestiary.errors import LayoutError
from bestiary.vision.transforms import Preprocess
from bestiary.vision.vit_folder import share
from tests.vision.vit_cases import CASES, answer, built
from tests.vision.vits import close


def published_folder(case, folder, **processor):
    """A folder as transformers publishes it, with the preprocessing that the file of another says."""
    reference = built(case)
    reference.config.id2label = {index: f"name {index}" for index in range(7)}
    reference.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return reference


def photo(width, height):
    rows, columns = np.mgrid[0:height, 0:width]
    colours = [127 + 120 * np.sin(rows / 7 + columns / 5 * k) for k in (1, 2, 3)]
    return Image.fromarray(np.stack(colours, axis=-1).astype(np.uint8))


PROCESSORS = {
    "ViT": ("vit", {"size": {"height": 32, "width": 32}}),
    "DeiT": ("deit with a teacher", {"size": {"height": 36, "width": 36}, "crop_size": {"height": 32, "width": 32}}),
    "Bit": ("dinov2", {"size": {"shortest_edge": 37}, "crop_size": {"height": 32, "width": 32}}),
    "CLIP": ("clip with a projection", {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}),
    "Siglip": ("siglip", {"size": {"height": 32, "width": 32}}),
}


@pytest.mark.parametrize("processor", PROCESSORS)
def test_published_folders_are_loaded_and_written(processor, tmp_path):
    name, sizes = PROCESSORS[processor]
    theirs = getattr(transformers, f"{processor}ImageProcessor")(**sizes)
    reference = published_folder(CASES[name], tmp_path / "theirs", **theirs.to_dict())
    task = bestiary.load(tmp_path / "theirs", device="cpu", precision="fp32")
    classifies = "classifier" in " ".join(reference.state_dict())
    assert task.card.task == ("image-classification" if classifies else "image-embedding")
    assert not classifies or task.labels == tuple(f"name {index}" for index in range(7))

    photos = [photo(50, 41), photo(33, 90)]
    pixels = theirs(photos, return_tensors="pt")["pixel_values"]
    assert float((task.preprocess(photos) - pixels).abs().max()) < 0.02  # less than a step of 1/255
    with torch.no_grad():
        assert close(task.inference(pixels), answer(reference, pixels))

    task.export(tmp_path / "ours", layout="transformers")
    again = type(reference).from_pretrained(tmp_path / "ours").eval()
    written = transformers.AutoImageProcessor.from_pretrained(tmp_path / "ours")
    assert torch.equal(written(photos, return_tensors="pt")["pixel_values"], pixels)
    with torch.no_grad():
        assert close(again(pixels)[0] if classifies else answer(again, pixels), answer(reference, pixels))
    exported = bestiary.load(tmp_path / "ours", device="cpu", precision="fp32")
    assert exported.card.preprocess == task.card.preprocess and exported.card.labels == task.card.labels


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_what_timm_publishes_is_written_for_transformers(name, tmp_path):
    torch.manual_seed(0)
    reference = timm.create_model(name).eval()
    timm.models.save_for_hf(reference, tmp_path / "theirs", safe_serialization=True)
    bestiary.load(tmp_path / "theirs", device="cpu").export(tmp_path / "ours", layout="transformers")
    described = json.loads((tmp_path / "ours/config.json").read_text())
    exported = getattr(transformers, *described["architectures"]).from_pretrained(tmp_path / "ours").eval()
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert close(exported(images).logits, reference(images))
    assert exported.config.id2label[281] == "tabby"


def preprocess_of(tmp_path, name, **processor):
    published_folder(CASES[name], tmp_path, **processor)
    return bestiary.load(tmp_path, device="cpu").preprocess


def test_older_files_say_less(tmp_path):
    """A number for a size, no name of the processor, nothing of what is usual."""
    shared = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    assert preprocess_of(tmp_path / "vit", "vit", size=32, do_resize=True, crop_size=None) == Preprocess(
        size=32, fit="squash", interpolation="bilinear", resampler="torch", **shared
    )
    assert preprocess_of(
        tmp_path / "deit", "deit", feature_extractor_type="DeiTFeatureExtractor", size=36, crop_size=32, resample=1
    ) == Preprocess(size=32, fit="squash", crop=32 / 36, interpolation="lanczos", **shared)
    clip = preprocess_of(tmp_path / "clip", "clip", image_processor_type="CLIPImageProcessorFast", size=40, crop_size=32)
    assert (clip.fit, clip.size, clip.scaled, clip.interpolation) == ("crop_floor", 32, 40, "bicubic")


def test_a_crop_of_any_size_comes_from_an_edge_of_the_very_size():
    for edge in range(1, 600):
        for side in {1, edge // 2 + 1, edge - 1 or 1, edge}:
            crop = share(side, edge)
            assert Preprocess(size=side, crop=crop, interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1)).scaled == edge


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_processor_type": "FlavaImageProcessor"}, "Flava"),
        ({"do_normalize": False}, "do_normalize: False"),
        ({"rescale_factor": 1.0}, "rescale_factor: 1.0"),
        ({"do_pad": True}, "do_pad: True"),
        ({"resample": 0}, "resample: 0"),
        ({"size": {"height": 32, "width": 40}}, "size"),
        ({"size": {"longest_edge": 32}}, "size"),
        ({"size": {"shortest_edge": 32}}, "makes no square"),
        ({"do_center_crop": True, "crop_size": 40}, "makes no square"),
        ({"do_center_crop": True, "crop_size": 29}, "odd margin"),
    ],
)
def test_preprocessing_of_another_kind_is_refused(change, message, tmp_path):
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, **change}
    published_folder(CASES["vit"], tmp_path, **processor)
    with pytest.raises(LayoutError, match=message) as caught:
        bestiary.load(tmp_path)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_folder_without_preprocessing_is_refused(tmp_path):
    published_folder(CASES["vit"], tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(LayoutError, match="preprocessor_config"):
        bestiary.load(tmp_path)
