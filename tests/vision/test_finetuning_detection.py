"""The loss is that of transformers, scenes come to it as they are, and a tiny detector learns the ones that it is shown."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from datasets import ClassLabel, Dataset, Features, List, Value
from torchvision.ops import box_iou
from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

import bestiary
from bestiary.cli import main
from bestiary.core.tuning.fit import fit
from bestiary.core.tuning.order import Batches, Order
from bestiary.core.tuning.recipe import Recipe
from bestiary.errors import InputError
from bestiary.hub.card import read_card
from bestiary.vision.detr import Objects
from bestiary.vision.finetuning_detection import (
    Detection,
    PaddedScenes,
    Scenes,
    corners,
    detection_loss,
    match,
    weight_of,
    with_objects,
)
from tests.vision.drawn_scenes import COLOURS, PREPROCESS, TINY, save_tiny, scene, tiny_net, write

SCRIPT = Path(bestiary.__file__).parent.parent / "scripts" / "finetune_detector.py"
QUICK = Recipe(epochs=1, batch_size=2, workers=0, device="cpu", precision="fp32")
SCENES = [scene(0, 64, 64, 1), scene(1, 64, 90, 2), scene(2, 80, 64, 0)]
prepared = PaddedScenes(PREPROCESS)


@pytest.fixture(autouse=True)
def one_thread():
    """oneDNN writes beyond its memory where several threads compute gradients of convolutions as narrow as these are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seen(rows):
    return prepared(rows, range(len(rows)))


def drawn_at_random(counts, queries=7, classes=4):
    """What a net might have found, and what there is; boxes of all sizes, within the image."""
    generator = torch.Generator().manual_seed(len(counts))
    boxes = torch.rand(len(counts) * queries + sum(counts), 4, generator=generator) * 0.4 + 0.01
    boxes[:, :2] += 0.25
    found, wanted = boxes.split([len(counts) * queries, sum(counts)])
    logits = torch.randn(len(counts), queries, classes + 1, generator=generator).requires_grad_()
    labels = torch.randint(classes, (sum(counts),), generator=generator)
    nothing = torch.empty(0)
    scenes = Scenes(nothing, nothing, wanted, labels, counts, float(sum(counts)))
    return Objects(logits, found.reshape(len(counts), queries, 4).clone().requires_grad_()), scenes


@pytest.mark.parametrize("counts", [(2, 0, 3), (1,), (0, 0), (7, 4)], ids=str)
def test_the_loss_and_its_gradients_are_those_of_transformers(counts):
    found, scenes = drawn_at_random(counts)
    config = transformers.DetrConfig(num_labels=4, auxiliary_loss=False)
    pairs = zip(scenes.labels.split(counts), scenes.boxes.split(counts), strict=True)
    labels = [{"class_labels": classes, "boxes": boxes} for classes, boxes in pairs]
    expected, _, _ = ForObjectDetectionLoss(found.logits, labels, torch.device("cpu"), found.boxes, config)
    loss = detection_loss(found, scenes)
    assert expected.item() > 0.1 and abs((loss - expected).item()) <= 1e-5
    ours, theirs = (torch.autograd.grad(value, list(found), allow_unused=True) for value in (loss, expected))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, torch.zeros_like(one) if other is None else other, atol=1e-6)
    assert float(ours[0].abs().max()) > 1e-3


def test_every_object_is_found_by_the_query_that_is_nearest():
    counts = (3, 0, 2)
    found, scenes = drawn_at_random(counts)
    boxes, places = found.boxes.detach().clone(), [(0, 4), (0, 1), (0, 6), (2, 0), (2, 5)]
    for wanted, place in zip(scenes.boxes, places, strict=True):
        boxes[place] = wanted
    images, queries, objects = match(Objects(torch.zeros_like(found.logits), boxes), scenes)
    assert {number: place for *place, number in zip(images.tolist(), queries.tolist(), objects.tolist(), strict=True)} == {
        number: list(place) for number, place in enumerate(places)
    }
    logits = torch.zeros_like(found.logits)  # of two queries with the same box the one that tells its class
    boxes[0, 2], logits[0, 2, scenes.labels[0]] = scenes.boxes[0], 3.0
    assert (0, 2, 0) in set(zip(*(part.tolist() for part in match(Objects(logits, boxes), scenes)), strict=True))


def test_more_objects_than_queries_and_numbers_that_are_none():
    found, scenes = drawn_at_random((4, 1), queries=2)
    images, queries, objects = match(found, scenes)
    assert images.tolist() == [0, 0, 1] and sorted(queries[:2].tolist()) == [0, 1] and len(set(objects.tolist())) == 3
    assert torch.isfinite(detection_loss(found, scenes)).item()
    broken = found._replace(logits=found.logits * float("nan"))
    assert not torch.isfinite(detection_loss(broken, scenes))


@torch.no_grad()
def test_a_scene_alone_gives_what_it_gives_among_larger_ones():
    """Of a net whose convolutions see but the middle of what they stand on; others see the padding at the edges of an image."""
    net = tiny_net().eval()
    for convolution in (part for part in net.backbone.modules() if isinstance(part, torch.nn.Conv2d)):
        middle = torch.zeros_like(convolution.weight)
        middle[..., convolution.padding[0], convolution.padding[1]] = 1 / 3
        convolution.weight.copy_(middle * torch.randn_like(middle))
    together = seen([scene(7, 60, 96, 3), SCENES[0], SCENES[1], scene(8, 96, 50, 1)])
    assert together.images.shape == (4, 3, 96, 96) and not together.mask.all()
    found = net(together.images, together.mask)
    for number, row in ((1, SCENES[0]), (2, SCENES[1])):
        alone = seen([row])
        assert alone.mask.all() and alone.images.shape != together.images[:1].shape
        expected = net(alone.images, alone.mask)
        each = Objects(*(part[number : number + 1] for part in found))
        assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(each, expected, strict=True))
        assert abs(float(detection_loss(each, alone) - detection_loss(expected, alone))) <= 1e-5
    assert float((net(together.images).boxes[1] - found.boxes[1]).abs().max()) > 1e-4  # or the mask would mean nothing


def test_a_net_sees_scenes_as_its_card_says():
    scenes = seen(SCENES)
    assert scenes.counts == (1, 2, 0) and scenes.objects == 3 and scenes.labels.tolist() == [0, 0, 1]
    for image, mask, row in zip(scenes.images, scenes.mask, SCENES, strict=True):
        (pixels, place), (height, width) = PREPROCESS.seen(row["image"]), row["image"].shape[:2]
        h, w = place.canvas
        assert torch.equal(image[:, :h, :w], PREPROCESS.normalize(pixels)) and mask[:h, :w].all()
        assert mask.sum() == h * w and float(image.abs().sum()) == pytest.approx(float(image[:, :h, :w].abs().sum()))
        assert place.original == (height, width)
    shares = torch.tensor(SCENES[1]["boxes"]) / torch.tensor([90, 64, 90, 64])
    assert torch.allclose(corners(scenes.boxes[1:]), shares, atol=1e-6)
    with pytest.raises(InputError, match=r"of 64 × 64 pixels has boxes that reach out of it: \[\[5, 5, 70, 20\]\]"):
        seen([{**SCENES[0], "boxes": [[5, 5, 70, 20]]}])


def test_a_mirrored_scene_has_mirrored_boxes():
    row, mirrored = SCENES[1], PaddedScenes(PREPROCESS, mirrored=1.0)
    plain, turned = seen([row]), mirrored([row], [0])
    assert torch.equal(turned.images, plain.images.flip(-1)) and torch.equal(turned.labels, plain.labels)
    left, top, right, bottom = corners(plain.boxes).unbind(1)
    assert torch.allclose(corners(turned.boxes), torch.stack((1 - right, top, 1 - left, bottom), 1), atol=1e-6)
    sometimes, seeds = PaddedScenes(PREPROCESS, mirrored=0.5), range(40)
    once, again = (sometimes([row] * 40, seeds).boxes for _ in range(2))
    kept = int((once[::2] == plain.boxes[0]).all(1).sum())
    assert torch.equal(once, again) and 10 < kept < 30


def test_the_batches_of_a_step_count_as_one():
    """Whether rows come two at a time, of which one pair may have no objects at all, or all at once."""
    rows = [scene(0, 64, 64, 3), scene(1, 64, 64, 0), scene(2, 64, 64, 1), scene(3, 64, 64, 0)]
    weights = [weight_of(len(row["label"]), TINY.queries) for row in rows]
    found = {}
    for size, accumulate in ((4, 1), (2, 2), (1, 4)):
        tuning = Detection(tiny_net(), recipe=QUICK, steps=1)
        order = Order(4, batch_size=size, accumulate=accumulate, epochs=1, weights=weights)
        batches = Batches(rows, prepared)
        losses = []
        for draw in order:
            batch = tuning.on_before_batch_transfer(batches[draw], 0)
            losses.append(tuning.loss(batch.inputs) * batch.draw.share / accumulate)
            losses[-1].backward()
        gradients = [parameter.grad for parameter in tuning.net.parameters()]
        assert len(losses) == accumulate and all(torch.isfinite(gradient).all() for gradient in gradients)
        found[size] = [sum(losses).detach(), *gradients]
    for size in (2, 1):
        assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found[size], found[4], strict=True))


@torch.no_grad()
def test_validation_finds_the_same_whatever_its_batches_are():
    """And where they have as many objects as it takes for the average, their loss."""
    rows = [scene(0, 64, 64, 3), scene(1, 64, 64, 0), scene(2, 64, 64, 1), scene(3, 64, 64, 0)]
    tuning = Detection(tiny_net().eval(), 1.0, recipe=QUICK, steps=1)
    found = []
    for size in (4, 3, 1):
        parts = [tuning.measures(seen(rows[first : first + size])) for first in range(0, 4, size)]
        found.append(sum(float(values["val_loss"]) * count for values, count in parts) / 4)
        assert sum(count for _, count in parts) == 4
    assert found == pytest.approx([float(tuning.loss(seen(rows)))] * 3, abs=1e-5)


def test_a_step_without_any_object():
    rows = [scene(1, 64, 64, 0), scene(3, 64, 80, 0)]
    order = Order(2, batch_size=1, accumulate=2, epochs=1, weights=[weight_of(0, TINY.queries)] * 2)
    tuning = Detection(tiny_net(), recipe=QUICK, steps=1)
    loss = sum(tuning.loss(tuning.on_before_batch_transfer(Batches(rows, prepared)[draw], 0).inputs) for draw in order)
    loss.backward()
    grown = tuning.net.class_head.bias.grad
    assert float(loss.detach()) > 0 and float(grown[-1]) < 0 and all(grown[:-1] > 0)  # that there is nothing gets likelier


def test_the_backbone_learns_at_a_tenth_of_the_rate():
    net = tiny_net()
    groups = Detection(net, recipe=QUICK, steps=1).groups()
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        assert rates[id(parameter)] == pytest.approx(QUICK.lr * (0.1 if name.startswith("backbone.") else 1)), name


def test_crowds_and_boxes_without_area_are_left_out():
    kind = ClassLabel(names=["a", "b"])
    features = Features({"image": Value("string"), "boxes": List(List(Value("float32"))), "labels": List(kind)})
    box, flat = [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 2.0]
    rows = Dataset.from_dict({"image": ["1", "2"], "boxes": [[box, flat, box], []], "labels": [[1, 0, 0], []]}, features)
    plain = with_objects(rows, "scenes")
    assert plain.column_names == ["image", "boxes", "label"] and plain.features["label"] == List(kind)
    assert plain["boxes"][:] == [[box, box], []] and plain["label"][:] == [[1, 0], []]
    crowded = rows.add_column("crowd", [[True, False, False], []])
    assert with_objects(crowded, "scenes")["label"][:] == [[0], []]
    with pytest.raises(InputError, match="scenes has no column 'boxes'\nits columns: image, labels"):
        with_objects(rows.remove_columns("boxes"), "scenes")
    with pytest.raises(InputError, match="row 0 has 3 boxes and 2 labels"):
        with_objects(Dataset.from_dict({**rows.to_dict(), "labels": [[1, 0], []]}, features), "scenes")
    with pytest.raises(InputError, match="'labels' Value"):
        with_objects(rows.remove_columns("labels").add_column("labels", [1, 0]), "scenes")


def test_a_tiny_detector_learns_three_scenes(tmp_path):
    rows = SCENES * 120
    recipe = Recipe(
        epochs=2, batch_size=3, lr=5e-3, warmup=0.1, clip=0.5, weight_decay=1e-4, workers=0, device="cpu", precision="fp32"
    )
    order = Order.of(recipe, len(rows), weights=[weight_of(len(row["label"]), TINY.queries) for row in rows])
    tuning = Detection(tiny_net(), recipe=recipe, steps=order.steps)
    fitted = fit(tuning, Batches(rows, prepared), Batches(SCENES, prepared), order, tmp_path)
    assert fitted.name == "val_loss" and fitted.value < 1
    scenes = seen(SCENES)
    with torch.no_grad():
        found = fitted.net(scenes.images, scenes.mask)
    images, queries, objects = match(found, scenes)
    overlaps = box_iou(corners(found.boxes[images, queries]), corners(scenes.boxes[objects])).diag()
    assert float(overlaps.min()) > 0.5
    answers = found.logits.argmax(-1)
    assert answers[images, queries].tolist() == scenes.labels[objects].tolist()
    assert int((answers != TINY.num_classes).sum()) == 3  # all other queries say that there is nothing


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Scenes as Roboflow exports them, and a detector of other classes."""
    monkeypatch.chdir(tmp_path)
    save_tiny(Path("tiny"))
    for split, first, count in (("train", 0, 8), ("valid", 20, 3)):
        rows = {f"{seed}.png": scene(seed, 64, 80, seed % 4) for seed in range(first, first + count)}
        write(Path("scenes", split, "_annotations.coco.json"), rows, Path("scenes", split))
    return tmp_path


def test_the_script_from_a_folder_of_scenes_to_a_model(folder, capsys):
    asked = ["--data", "scenes/", "-o", "found", "--device", "cpu", "--epochs", "12", "--lr", "5e-3", "--mirrored", "0.2"]
    done = subprocess.run([sys.executable, SCRIPT, "./tiny", *asked], capture_output=True, text=True, timeout=150, check=False)
    told = done.stderr
    assert done.returncode == 0, told
    assert "8 rows to learn from, 3 to validate" in told and "12 boxes to learn from, 0 to 3 an image" in told
    assert "3 classes:\n  red         6 " in told and "epoch 12 of 12: loss " in told

    detect = bestiary.load("./found", device="cpu")
    assert detect.labels == COLOURS and detect.net.config.num_classes == 3
    assert {one.label for one in detect(scene(2, 64, 80, 2)["image"], threshold=0)} <= set(COLOURS)
    assert np.isfinite([one.box for one in detect(scene(2, 64, 80, 2)["image"], threshold=0)]).all()
    card = read_card(folder / "found" / "README.md")
    assert card.labels == COLOURS and "12 boxes to learn from" in card.text and "--mirrored 0.2" in card.text

    (found,) = [metric for metric in card.metrics if metric.metric == "map_50"]
    assert main([*found.command.split()[1:], "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["evaluations"][0]
    assert again["metrics"]["map_50"] == pytest.approx(found.value, abs=1e-5) and again["counts"] == {"objects": 3}


def test_the_script_says_what_it_cannot_learn(folder, capsys):
    place = folder / "scenes" / "train" / "_annotations.coco.json"
    told = json.loads(place.read_text())
    asked = ["finetune", "./tiny", "--data", "scenes/", "-o", "found", "--device", "cpu", "--workers", "0", "--epochs", "1"]
    told["annotations"] = [one for one in told["annotations"] if one["category_id"] != 6]
    place.write_text(json.dumps(told))
    assert main(asked) == 11
    assert "scenes/ has no rows of 'green' to learn from, and some in validation" in capsys.readouterr().err
    assert not Path("found").exists()
    for split in ("train", "valid"):  # one class is enough for a detector
        place = folder / "scenes" / split / "_annotations.coco.json"
        told = json.loads(place.read_text())
        told["annotations"] = [one for one in told["annotations"] if one["category_id"] == 5]
        told["categories"] = told["categories"][:1]
        place.write_text(json.dumps(told))
    assert main(asked) == 0 and bestiary.load("./found").labels == ("red",)
