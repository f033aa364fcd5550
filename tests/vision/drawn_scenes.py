"""Scenes to learn from: coloured rectangles on noise, a tiny detector, and the folders that people keep scenes in."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import bestiary
from bestiary.saving import save
from bestiary.vision.detr import Detr, DetrConfig
from bestiary.vision.resnet import ResNetConfig
from bestiary.vision.tasks.detection import ObjectDetector
from bestiary.vision.transforms import Preprocess

COLOURS = ("red", "green", "blue")
HALF = (0.5, 0.5, 0.5)
PREPROCESS = Preprocess(size=64, longest=96, fit="shortest", interpolation="bilinear", resampler="torch", mean=HALF, std=HALF)
BACKBONE = ResNetConfig(block="basic", depths=(1, 1, 1, 1), width=8, num_classes=0)
TINY = DetrConfig(backbone=BACKBONE, layers=1, decoder_layers=2, width=32, heads=4, hidden=64, queries=5, num_classes=3)


def tiny_net(**changes: Any) -> Detr:
    torch.manual_seed(0)
    return Detr(DetrConfig(**{**vars(TINY), **changes}))


def save_tiny(folder: Path) -> None:
    """A detector of another three classes, with random weights, as `bestiary.load` takes it."""
    card = replace(bestiary.card("detr-resnet-50"), preprocess=asdict(PREPROCESS), labels=("cat", "dog", "emu"))
    save(ObjectDetector(tiny_net().eval(), card, {}, None), folder)


def scene(seed: int, height: int, width: int, count: int) -> dict[str, Any]:
    """A row of so many rectangles, of the colours that their classes are called by, the last one on top."""
    dice = np.random.default_rng(seed)
    image = dice.integers(0, 80, (height, width, 3), dtype=np.uint8)
    boxes = []
    for number in range(count):
        left, top = int(dice.integers(0, width // 2)), int(dice.integers(0, height // 2))
        right, bottom = left + int(dice.integers(width // 4, width // 2)), top + int(dice.integers(height // 4, height // 2))
        image[top:bottom, left:right] = 255 * np.eye(3, dtype=np.uint8)[number % 3]
        boxes.append([left, top, right, bottom])
    return {"image": image, "boxes": boxes, "label": [number % 3 for number in range(count)]}


def write(place: Path, rows: dict[str, dict[str, Any]], images: Path, **changes: Any) -> dict[str, Any]:
    """A file of annotations as COCO has them, numbered from 1, and its images by name in a folder; gives what the file says."""
    told: dict[str, Any] = {
        "images": [], "annotations": [], "categories": [{"id": 5 + n, "name": name} for n, name in enumerate(COLOURS)]
    }  # fmt: skip
    for number, (name, row) in enumerate(rows.items(), start=1):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(row["image"]).save(images / name)
        height, width = row["image"].shape[:2]
        told["images"].append({"id": number, "file_name": name, "width": width, "height": height})
        for (left, top, right, bottom), label in zip(row["boxes"], row["label"], strict=True):
            box = {"bbox": [left, top, right - left, bottom - top], "category_id": 5 + label, "image_id": number, "iscrowd": 0}
            told["annotations"].append({"id": len(told["annotations"]), **box})
    told |= changes
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(told))
    return told
