"""Where nets look: on a real photo, and beside a direct computation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bestiary
from bestiary.core.runtime import for_inference
from bestiary.errors import InputError
from bestiary.table import find_architecture
from bestiary.vision.backbone import Backbone
from bestiary.vision.explain import attention_rollout, grad_cam, on_image
from bestiary.vision.fits import Placement
from bestiary.vision.tasks.classification import ImageClassifier
from bestiary.vision.vit import ViT, ViTConfig
from tests.test_contract import CASES, images

PHOTO = Path(bestiary.__file__).parent.parent / "scripts" / "chelsea.jpg"
NETS_OF_MAPS = [name for name, case in CASES.items() if case.inputs is images and name != "vit"]


@pytest.fixture(scope="module")
def classify():
    return bestiary.load("efficientnet-lite0", device="cpu", precision="fp32")


def tiny_vit(**changes):
    torch.manual_seed(0)
    shape = {"image": 32, "patch": 8, "layers": 3, "width": 32, "heads": 4, "hidden": 64, "num_classes": 7}
    net = ViT(ViTConfig(**{**shape, **changes})).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # strong enough for attention to prefer something
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return net


def test_the_heat_lies_on_the_cat(classify):
    """Both eyes and the nose, which a hand drew a box around: under a third of the photo."""
    explanation = classify.explain(PHOTO)
    values = explanation.values
    assert explanation.label.name == "tiger cat"
    assert explanation.label.score == pytest.approx(classify(PHOTO, top=1)[0].score, abs=1e-5)
    assert values.shape == (300, 451) and values.dtype == torch.float32
    assert values.min() == 0 and 0.9 < values.max() <= 1
    assert values[75:265, 125:330].sum() / values.sum() > 0.7
    assert values[:, :90].max() == 0 == values[:, 365:].max()  # what the crop leaves out, the net does not see


@pytest.mark.parametrize(("left", "top"), [(0, 0), (230, 0), (0, 230), (230, 230)])
def test_the_heat_follows_the_cat(classify, left, top):
    """A small cat in a corner of a plain image: a fifth of its area."""
    canvas = Image.new("RGB", (430, 430), (128, 128, 128))
    canvas.paste(Image.open(PHOTO).crop((75, 0, 375, 300)).resize((200, 200)), (left, top))
    values = classify.explain(canvas, "tiger cat").values
    assert values[top : top + 200, left : left + 200].sum() / values.sum() > 0.6


def test_the_picture_is_in_grey_where_nothing_counted(classify):
    picture = np.asarray(classify.explain(PHOTO).plot()).astype(int)
    assert picture.shape == (300, 451, 3)
    assert (picture.max(2) - picture.min(2))[:, :90].max() == 0 and (picture.max(2) - picture.min(2)).max() > 100


def test_the_net_and_its_mode_stay_as_they_are(classify):
    classify.net.train()
    before = {name: tensor.clone() for name, tensor in classify.net.state_dict().items()}
    again = classify.explain(PHOTO)
    assert classify.net.training and all(parameter.grad is None for parameter in classify.net.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in classify.net.state_dict().items())
    torch.testing.assert_close(classify.explain(PHOTO).values, again.values)
    classify.net.eval()


def test_a_label_that_is_not_there_is_refused_with_those_that_are_near(classify):
    with pytest.raises(InputError, match=r"no label 'tigr cat'\n.* tiger cat"):
        classify.explain(PHOTO, "tigr cat")
    with pytest.raises(InputError, match="no label 282"):
        classify.explain(PHOTO, 282)


def test_of_pooled_maps_the_weights_are_those_of_the_head(classify):
    """Behind a mean and a linear head, Grad-CAM is the head applied at every place (Zhou et al. 2015, arXiv:1512.04150)."""
    net, batch = classify.net, classify.preprocess([PHOTO])
    with torch.no_grad():
        maps = net.features(batch)
        expected = torch.einsum("c,nchw->nhw", net.head.weight[285] / maps[0, 0].numel(), maps).relu()
    torch.testing.assert_close(grad_cam(net, batch, 285), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", NETS_OF_MAPS)
def test_every_net_of_maps_can_be_explained(name):
    architecture = find_architecture(name)
    torch.manual_seed(0)
    net: Backbone = architecture.net(architecture.configure(CASES[name].config)).eval()
    (batch,) = images("cpu")
    heat = grad_cam(for_inference(net), batch, 1)
    assert heat.shape == (3, *net.features(batch).shape[2:]) and heat.isfinite().all() and (heat >= 0).all()
    torch.testing.assert_close(grad_cam(net, batch, 1), heat, atol=1e-4, rtol=1e-3)


def rollout_by_hand(net, batch):
    """Token by token as the paper has it, from the weights alone."""
    x, flow = net.embed(batch), None
    for block in net.stages:
        attention, normed = block.attention, block.attention_norm(x)
        query, key = (layer(normed).unflatten(-1, (4, 8)).transpose(1, 2) for layer in (attention.query, attention.key))
        mean = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1).mean(1)
        mixed = 0.5 * mean + 0.5 * torch.eye(x.shape[1])
        flow = mixed if flow is None else mixed @ flow
        x = net.through(block, x)
    return flow


@torch.no_grad()
@pytest.mark.parametrize("form", [lambda net: net, for_inference], ids=["plain", "for_inference"])
@pytest.mark.parametrize(
    ("changes", "pooled"),
    [
        ({}, lambda flow: flow[:, 0, 1:]),
        ({"registers": 2}, lambda flow: flow[:, 0, 3:]),
        ({"class_tokens": 0, "pooling": "mean"}, lambda flow: flow.mean(1)),
        ({"pooling": "class_mean"}, lambda flow: (flow[:, 0, 1:] + flow[:, 1:, 1:].mean(1)) / 2),
    ],
    ids=["class", "registers", "mean", "class_mean"],
)
def test_rollout_is_the_product_of_what_blocks_attend_to(form, changes, pooled):
    net, batch = tiny_vit(**changes), torch.randn(2, 3, 32, 48)
    rollout = attention_rollout(form(net), batch)
    assert rollout.shape == (2, 4, 6) and rollout.std() > 1e-3
    torch.testing.assert_close(rollout.flatten(1), pooled(rollout_by_hand(net, batch)), atol=1e-6, rtol=1e-4)


def test_a_vision_transformer_is_explained_whatever_the_label(classify):
    net = tiny_vit()
    card = replace(classify.card, labels=None, preprocess={**classify.card.preprocess, "size": 32, "crop": 1.0})
    task = ImageClassifier(net, card, {}, None)
    explanation = task.explain(PHOTO)
    assert explanation.label.name == task(PHOTO, top=1)[0].name
    heat = attention_rollout(net, task.preprocess([PHOTO]))[0]
    place = task.preprocess.seen(PHOTO)[1]
    torch.testing.assert_close(explanation.values, on_image(heat, place), atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="leave label out"):
        task.explain(PHOTO, "3")


def test_heat_comes_to_lie_where_the_net_saw_it():
    """An image of 40 × 20 pixels, enlarged twice, of which the net saw a square in the middle; then one with a border."""
    heat = torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    values = on_image(heat, Placement((20, 40), (40, 80), (0, -20), (40, 40)))
    assert values.shape == (20, 40) and values[:, :9].max() == 0 == values[:, 31:].max()
    assert values[18, 28] == 1 and values[2, 28] == pytest.approx(1 / 3, abs=0.05) and values[10, 12] == 0
    values = on_image(heat, Placement((20, 40), (20, 40), (10, 0), (40, 40)))
    assert values.shape == (20, 40) and values[0, 35] < values[10, 35] < values[19, 35] < 1 and values[:, 0].max() == 0
