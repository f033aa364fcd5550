"""DETR against transformers, both ways, with padding and without."""

import json
from dataclasses import replace

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file

import bestiary
from bestiary.core import weights
from bestiary.core.runtime import for_inference
from bestiary.errors import LayoutError
from bestiary.vision import labels
from bestiary.vision.detr import ARCHITECTURE, VARIANTS, Detr, DetrConfig
from bestiary.vision.resnet import VARIANTS as RESNETS
from tests.vision.nets import difference, randomised

PUBLISHED = ARCHITECTURE.configs["transformers"]
SHAPE = {"layers": 2, "decoder_layers": 2, "width": 32, "heads": 4, "hidden": 48, "queries": 7, "num_classes": 5}
TINY = {
    name: DetrConfig(backbone=replace(RESNETS["resnet18"], num_classes=0, output_stride=stride), **SHAPE)
    for name, stride in {"plain": 32, "dc5": 16}.items()
}
# config.json of facebook/detr-resnet-50, but for the names of the classes
FACEBOOK = {
    "activation_dropout": 0.0, "activation_function": "relu", "architectures": ["DetrForObjectDetection"],
    "attention_dropout": 0.0, "auxiliary_loss": False, "backbone": "resnet50", "bbox_cost": 5, "bbox_loss_coefficient": 5,
    "class_cost": 1, "classifier_dropout": 0.0, "d_model": 256, "decoder_attention_heads": 8, "decoder_ffn_dim": 2048,
    "decoder_layerdrop": 0.0, "decoder_layers": 6, "dice_loss_coefficient": 1, "dilation": False, "dropout": 0.1,
    "encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "encoder_layerdrop": 0.0, "encoder_layers": 6,
    "eos_coefficient": 0.1, "giou_cost": 2, "giou_loss_coefficient": 2, "init_std": 0.02, "init_xavier_std": 1.0,
    "id2label": {str(number): f"class {number}" for number in range(91)},
    "is_encoder_decoder": True, "mask_loss_coefficient": 1, "max_position_embeddings": 1024, "model_type": "detr",
    "num_hidden_layers": 6, "num_queries": 100, "position_embedding_type": "sine", "scale_embedding": False,
}  # fmt: skip


def reference_of(config, size=96):
    """The net of transformers, with weights at random that let each query find its own; its norms have statistics of images."""
    described = transformers.DetrConfig.from_dict(PUBLISHED.write(config))
    reference = transformers.DetrForObjectDetection(described).eval()
    torch.manual_seed(0)
    backbone = reference.model.backbone.model
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            noise = torch.randn_like(parameter)
            is_norm = "norm" in name and parameter.dim() == 1
            parameter.copy_(1 + 0.2 * noise if is_norm else 2 * noise * parameter.shape[-1] ** -0.5)
    twin = timm.create_model(described.backbone_config.backbone, features_only=True, output_stride=config.backbone.output_stride)
    backbone.load_state_dict(randomised(twin, images_and_mask(size)[0]).state_dict())
    return reference


def images_and_mask(size=96, count=3):
    """Images of several sizes in one batch, with zeros behind them."""
    images = torch.randn(count, 3, size, size + 40, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(count, size, size + 40, dtype=torch.bool)
    for number, (height, width) in enumerate([(size, size + 40), (size - 40, size + 40), (size - 9, size - 20)][:count]):
        mask[number, :height, :width] = True
    return images * mask[:, None], mask


def close(ours, theirs):
    return difference(ours.logits, theirs.logits) <= 1e-5 and difference(ours.boxes, theirs.pred_boxes) <= 1e-5


def load(path, config):
    return weights.load(ARCHITECTURE, config, path, "transformers")


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_a_tiny_net_computes_what_transformers_computes_and_goes_back(name, tmp_path):
    """Read from what `save_pretrained` wrote, and written so that `from_pretrained` reads it."""
    config, (images, mask) = TINY[name], images_and_mask()
    reference = reference_of(config)
    reference.save_pretrained(tmp_path)
    published = json.loads((tmp_path / "config.json").read_text())
    assert ARCHITECTURE.configure(PUBLISHED.read(published)) == config
    net, expected = load(tmp_path / "model.safetensors", config), reference(images)
    assert difference(expected.logits[0], expected.logits[1]) > 0.01  # the image matters, and so does the padding
    assert difference(expected.pred_boxes[1], reference(images, mask.long()).pred_boxes[1]) > 0.001
    assert close(net(images), expected)
    assert close(net(images, mask), reference(images, mask.long()))
    assert close(for_inference(net)(images, mask), reference(images, mask.long()))

    saved = load_file(tmp_path / "model.safetensors")
    weights.save(net, tmp_path / "model.safetensors", ARCHITECTURE.rules("transformers", config, list(net.state_dict())))
    exported = load_file(tmp_path / "model.safetensors")
    assert exported.keys() == saved.keys() and all(torch.equal(exported[name], saved[name]) for name in saved)
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED.write(config)))
    again = transformers.DetrForObjectDetection.from_pretrained(tmp_path).eval()
    assert close(net(images, mask), again(images, mask.long()))


@torch.no_grad()
def test_published_keys_and_those_of_a_plain_state_dict_are_read(tmp_path):
    """The published files hold some counts of batches, which frozen norms have no use for."""
    config, (images, mask) = TINY["plain"], images_and_mask()
    reference = reference_of(config)
    expected, state = reference(images, mask.long()), reference.state_dict()
    save_file(state, tmp_path / "today.safetensors")
    old = {
        name.replace("backbone.model", "backbone.conv_encoder.model").replace("o_proj", "out_proj").replace("mlp.fc", "fc"): value
        for name, value in state.items()
    }
    for stage in (2, 3, 4):
        old[f"model.backbone.conv_encoder.model.layer{stage}.0.downsample.1.num_batches_tracked"] = torch.tensor(7)
    save_file(old, tmp_path / "published.safetensors")
    for name in ("today", "published"):
        assert close(load(tmp_path / f"{name}.safetensors", config)(images, mask), expected)
    del old["model.backbone.conv_encoder.model.layer2.0.bn1.running_var"]
    save_file(old, tmp_path / "published.safetensors")
    with pytest.raises(LayoutError, match=r"layer2\.0\.bn1\.running_var"):
        load(tmp_path / "published.safetensors", config)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_the_tensors_of_transformers(name):
    config = VARIANTS[name]
    with torch.device("meta"):
        theirs = transformers.DetrForObjectDetection(transformers.DetrConfig.from_dict(PUBLISHED.write(config))).state_dict()
        ours = Detr(config).state_dict()
    mapped = {}
    for rule in ARCHITECTURE.rules("transformers", config, list(ours)):
        mapped |= {names[0]: ours[rule.ours[0]].shape for names in rule.theirs if rule.ours and names[0] in theirs}
    assert mapped == {name: tensor.shape for name, tensor in theirs.items()} and len(mapped) == len(ours)


@pytest.mark.full
@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_every_published_variant_computes_what_transformers_computes(name, tmp_path):
    reference = reference_of(VARIANTS[name], size=192)
    reference.save_pretrained(tmp_path)
    net, (images, mask) = load(tmp_path / "model.safetensors", VARIANTS[name]), images_and_mask(192, count=2)
    assert close(net(images), reference(images))
    assert close(net(images, mask), reference(images, mask.long()))


def test_published_configs_are_read_and_written():
    config = ARCHITECTURE.configure(PUBLISHED.read(FACEBOOK))
    assert config == VARIANTS["detr-resnet-50"] == DetrConfig()
    later = {"backbone_config": None, "use_timm_backbone": True, "use_pretrained_backbone": True, "num_channels": 3}
    options = {"backbone_kwargs": {"in_chans": 3, "out_indices": [1, 2, 3, 4]}, "backbone": "resnet101", "dilation": True}
    assert ARCHITECTURE.configure(PUBLISHED.read({**FACEBOOK, **later, **options})) == VARIANTS["detr-resnet-101-dc5"]
    for variant in VARIANTS.values():
        assert ARCHITECTURE.configure(PUBLISHED.read(PUBLISHED.write(variant))) == variant


@pytest.mark.parametrize(
    "change",
    [
        {"auxiliary_loss": True},
        {"position_embedding_type": "learned"},
        {"decoder_ffn_dim": 1024},
        {"architectures": ["DetrForSegmentation"]},
        {"backbone": "swin_tiny_patch4_window7_224"},
        {"use_timm_backbone": False, "backbone": "microsoft/resnet-50"},
        {"backbone_config": {"model_type": "resnet"}},
        {"backbone_config": {"model_type": "timm_backbone", "backbone": "resnet50", "out_indices": [1, 2]}},
        {"temperature": 20},
    ],
    ids=lambda change: ", ".join(change),
)
def test_a_published_config_that_is_computed_otherwise_is_refused(change):
    with pytest.raises(LayoutError) as caught:
        PUBLISHED.read({**FACEBOOK, **change})
    assert len(str(caught.value).splitlines()) <= 3


def test_configs_that_cannot_be_are_refused():
    with pytest.raises(LayoutError, match="multiple of 4"):
        DetrConfig(**{**SHAPE, "width": 30, "heads": 3})
    with pytest.raises(LayoutError, match="num_classes: 0"):
        DetrConfig(backbone=RESNETS["resnet50"])
    with pytest.raises(LayoutError, match="no name for this backbone"):
        PUBLISHED.write(DetrConfig(backbone=replace(RESNETS["resnet50"], num_classes=0, width=32)))


def test_training_leaves_the_norms_of_the_backbone_alone():
    net = Detr(TINY["plain"]).train()
    before = {name: value.clone() for name, value in net.named_buffers()}
    found = net(*images_and_mask())
    (found.logits.sum() + found.boxes.sum()).backward()
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
    assert not [name for name, _ in net.backbone.named_parameters() if "norm" in name]
    assert net.backbone.stages[0][0].branch[0].convolution.weight.grad is not None


@pytest.mark.parametrize("name", ["detr-resnet-50", "detr-resnet-101"])
def test_cards_say_what_transformers_takes_for_granted(name):
    card, usual = bestiary.card(name), transformers.DetrImageProcessor()
    assert ARCHITECTURE.configure(card.config) == VARIANTS[name] and card.sources[0].address == f"facebook/{name}"
    preprocess = card.preprocess
    edges = {"shortest_edge": preprocess["size"], "longest_edge": preprocess["longest"]}
    assert preprocess["fit"] == "shortest" and preprocess["interpolation"] == usual.resample.name.lower()
    assert edges == {key: value for key, value in dict(usual.size).items() if value is not None}
    assert (list(preprocess["mean"]), list(preprocess["std"])) == (list(usual.image_mean), list(usual.image_std))
    assert len(labels.names(card.labels)) == VARIANTS[name].num_classes


def test_a_card_of_a_detector_can_have_other_classes():
    net = bestiary.build("detr-resnet-50", num_classes=3)
    assert net.class_head.out_features == 4 and net.config.queries == 100


def test_what_transformers_publishes_is_loaded_and_exported(tmp_path):
    """A folder that transformers wrote, read, and written anew for transformers to read."""
    reference = reference_of(TINY["plain"])
    reference.config.id2label = dict(enumerate(["N/A", "person", "bicycle", "car", "N/A"]))
    reference.save_pretrained(tmp_path / "theirs")
    transformers.DetrImageProcessor(size={"shortest_edge": 96, "longest_edge": 160}).save_pretrained(tmp_path / "theirs")
    detect = bestiary.load(tmp_path / "theirs", device="cpu", precision="fp32")
    assert detect.labels == ("N/A", "person", "bicycle", "car", "N/A")
    assert (detect.preprocess.fit, detect.preprocess.size, detect.preprocess.longest) == ("shortest", 96, 160)

    detect.export(tmp_path / "ours", layout="transformers")
    again = transformers.DetrForObjectDetection.from_pretrained(tmp_path / "ours").eval()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "ours")
    assert (processor.size.shortest_edge, processor.size.longest_edge) == (96, 160)
    assert list(again.config.id2label.values()) == list(detect.labels)
    images, mask = images_and_mask()
    with torch.no_grad():
        assert close(detect.inference(images, mask), reference(images, mask.long()))
        assert close(detect.net(images, mask), again(images, mask.long()))
    detect.save(tmp_path / "saved")
    saved = bestiary.load(tmp_path / "saved", device="cpu", precision="fp32")
    assert saved.net.config == detect.net.config and saved.labels == detect.labels


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ({"size": 800, "max_size": 1333, "feature_extractor_type": "DetrFeatureExtractor"}, (800, 1333)),  # the published one
        ({"size": {"shortest_edge": 480, "longest_edge": 640}}, (480, 640)),
        ({}, (800, 1333)),
        ({"size": {"height": 640, "width": 640}}, "size"),
        ({"do_normalize": False}, "do_normalize"),
        ({"resample": 3, "do_something": 1}, "do_something"),
    ],
)
def test_the_file_of_an_image_processor(change, read, tmp_path):
    folder = ARCHITECTURE.folders["transformers"]
    common = {"do_normalize": True, "do_resize": True, "format": "coco_detection"}
    colours = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**common, **colours, **change}))
    if isinstance(read, str):
        with pytest.raises(LayoutError, match=read):
            folder.read(tmp_path, FACEBOOK)
    else:
        preprocess = folder.read(tmp_path, FACEBOOK).preprocess
        assert (preprocess["size"], preprocess["longest"], preprocess["interpolation"]) == (*read, "bilinear")
