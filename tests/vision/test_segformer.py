"""SegFormer and its encoder against transformers, both ways."""

import json
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file

import bestiary
from bestiary.core import weights
from bestiary.core.runtime import for_inference
from bestiary.errors import LayoutError
from bestiary.hub.registry import Registry
from bestiary.hub.settings import Settings
from bestiary.vision import mit, segformer
from bestiary.vision.segformer import FoldedDecoder
from tests.vision.nets import difference, images_for, scattered, shapes, shapes_written

SHAPE = {
    "depths": (1, 2, 1),
    "widths": (8, 12, 16),
    "heads": (1, 3, 2),
    "reductions": (4, 2, 1),
    "expansions": (4, 2, 3),
    "patches": (7, 3, 3),
    "strides": (4, 2, 2),
    "num_classes": 7,
}
SEGMENTER, CLASSIFIER = transformers.SegformerForSemanticSegmentation, transformers.SegformerForImageClassification
KINDS = {
    "segformer": (segformer.ARCHITECTURE, SEGMENTER, {**SHAPE, "decoder_width": 20}),
    "mit": (mit.ARCHITECTURE, CLASSIFIER, SHAPE),
}
REGISTRY = Registry.standard(Settings.read())


def theirs_of(kind, config):
    """The net of transformers for one of our configs."""
    architecture, reference, _ = KINDS[kind]
    return reference(transformers.SegformerConfig(**architecture.configs["transformers"].write(config)))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def tiny(kind):
    architecture, _, values = KINDS[kind]
    return architecture.configure(values)


@pytest.mark.parametrize("changes", [{}, {"in_channels": 1}, {"reductions": (1, 3, 2), "patches": (3, 5, 3)}], ids=str)
@torch.no_grad()
def test_a_tiny_net_computes_what_transformers_computes(kind, tiny, changes, tmp_path):
    architecture, config = KINDS[kind][0], replace(tiny, **changes)
    reference = scattered(theirs_of(kind, config))
    reference.save_pretrained(tmp_path)
    net = weights.load(architecture, config, tmp_path / "model.safetensors", "transformers")
    for images in (images_for(config), images_for(config, 96)):
        expected = reference(images).logits
        assert expected[0].std() > 0.1 and difference(expected[0], expected[1]) > 0.01  # the image matters
        assert difference(net(images), expected) <= 1e-5
        assert difference(for_inference(net)(images), expected) <= 1e-5


@torch.no_grad()
def test_transformers_loads_the_export_and_computes_the_same(kind, tiny, tmp_path):
    architecture, reference, _ = KINDS[kind]
    net, images = scattered(architecture.net(tiny)), images_for(tiny)
    rules = architecture.rules("transformers", tiny, list(net.state_dict()))
    weights.save(net, tmp_path / "model.safetensors", rules)
    (tmp_path / "config.json").write_text(json.dumps(architecture.configs["transformers"].write(tiny)))
    again, report = reference.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())  # nothing is missing, left over or of another shape
    assert difference(again.eval()(images).logits, net(images)) <= 1e-5

    again.save_pretrained(tmp_path / "back")
    theirs, ours = load_file(tmp_path / "back/model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


@torch.no_grad()
def test_stages_are_those_of_transformers(tmp_path):
    config = mit.ARCHITECTURE.configure(SHAPE)
    reference = scattered(theirs_of("mit", config))
    reference.save_pretrained(tmp_path)
    net = weights.load(mit.ARCHITECTURE, config, tmp_path / "model.safetensors", "transformers")
    images = images_for(config)
    expected = reference(images, output_hidden_states=True).hidden_states
    for ours, theirs in zip(net.intermediates(images, range(3)), expected, strict=True):
        assert difference(ours, theirs) <= 1e-5
    assert [maps.shape[1:] for maps in expected] == [(8, 16, 17), (12, 8, 9), (16, 4, 5)]
    assert difference(net.features(images), expected[-1]) <= 1e-5


@torch.no_grad()
def test_an_encoder_without_a_head_goes_without_the_prefix(tmp_path):
    config, published = mit.ARCHITECTURE.configure({**SHAPE, "num_classes": 0}), mit.ARCHITECTURE.configs["transformers"]
    described = transformers.SegformerConfig(**published.write(replace(config, num_classes=7)))
    reference = scattered(transformers.SegformerModel(described))
    reference.save_pretrained(tmp_path)
    net = weights.load(mit.ARCHITECTURE, config, tmp_path / "model.safetensors", "transformers")
    images = images_for(config)
    assert difference(net.features(images), reference(images).last_hidden_state) <= 1e-5
    rules = mit.ARCHITECTURE.rules("transformers", config, list(net.state_dict()))
    assert {name for rule in rules for name in rule.theirs[0]} == load_file(tmp_path / "model.safetensors").keys()
    with pytest.raises(LayoutError, match="cannot say num_classes: 0"):
        published.write(config)


@pytest.mark.parametrize("size", mit.SIZES)
def test_every_variant_has_the_tensors_of_transformers(kind, size):
    architecture, variants = KINDS[kind][0], {"mit": mit, "segformer": segformer}[kind].VARIANTS
    config = variants[f"{kind}-{size}"]
    with torch.device("meta"):
        reference = theirs_of(kind, config)
    # In memory transformers calls some of them otherwise than in files, so that names cannot be compared.
    theirs = shapes(reference.state_dict())
    assert sorted(shapes_written(architecture, config, "transformers").values()) == sorted(theirs.values())


@pytest.mark.full
@pytest.mark.parametrize("size", mit.SIZES)
@torch.no_grad()
def test_every_published_size_computes_what_transformers_computes(kind, size, tmp_path):
    config = {"mit": mit, "segformer": segformer}[kind].VARIANTS[f"{kind}-{size}"]
    reference = theirs_of(kind, config).eval()
    reference.save_pretrained(tmp_path)
    net = weights.load(KINDS[kind][0], config, tmp_path / "model.safetensors", "transformers")
    images = images_for(config, 128, 1)
    expected = reference(images).logits
    assert difference(net(images), expected) <= 1e-5
    assert difference(for_inference(net)(images), expected) <= 1e-5


# As published with nvidia/segformer-b0-finetuned-ade-512-512, but for the names of the classes.
PUBLISHED = {
    "architectures": ["SegformerForSemanticSegmentation"],
    "attention_probs_dropout_prob": 0.0,
    "classifier_dropout_prob": 0.1,
    "decoder_hidden_size": 256,
    "depths": [2, 2, 2, 2],
    "downsampling_rates": [1, 4, 8, 16],
    "drop_path_rate": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_sizes": [32, 64, 160, 256],
    "id2label": {str(index): f"class {index}" for index in range(150)},
    "image_size": 224,
    "initializer_range": 0.02,
    "label2id": {f"class {index}": index for index in range(150)},
    "layer_norm_eps": 1e-06,
    "mlp_ratios": [4, 4, 4, 4],
    "model_type": "segformer",
    "num_attention_heads": [1, 2, 5, 8],
    "num_channels": 3,
    "num_encoder_blocks": 4,
    "patch_sizes": [7, 3, 3, 3],
    "reshape_last_stage": True,
    "semantic_loss_ignore_index": 255,
    "sr_ratios": [8, 4, 2, 1],
    "strides": [4, 2, 2, 2],
    "torch_dtype": "float32",
    "transformers_version": "4.12.0.dev0",
}
OF_MIT = {**PUBLISHED, "architectures": ["SegformerForImageClassification"], "reshape_last_stage": False}


def test_a_published_config_is_that_of_the_variant():
    found = segformer.ARCHITECTURE.configure(segformer.CONFIG.read(PUBLISHED))
    assert replace(found, dropout=0.0, drop_path=0.0) == segformer.VARIANTS["segformer-b0"]
    assert (found.dropout, found.drop_path) == (0.1, 0.1)
    of_mit = {**OF_MIT, "id2label": {str(index): str(index) for index in range(1000)}}
    found = mit.ARCHITECTURE.configure(mit.ARCHITECTURE.configs["transformers"].read(of_mit))
    assert replace(found, drop_path=0.0) == mit.VARIANTS["mit-b0"]


def test_the_class_says_which_of_the_two_it_is():
    for published, ours in ((PUBLISHED, segformer.CONFIG), (OF_MIT, mit.ARCHITECTURE.configs["transformers"])):
        both = (segformer.CONFIG, mit.ARCHITECTURE.configs["transformers"])
        assert [known.recognises(published) for known in both] == [known is ours for known in both]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reshape_last_stage": False}, "reshape_last_stage: False"),
        ({"num_encoder_blocks": 3}, "num_encoder_blocks: 3, and depths of 4"),
        ({"hidden_act": "relu"}, "hidden_act: 'relu'"),
        ({"windows": 7}, "windows: 7, which segformer does not know"),
    ],
)
def test_a_config_that_is_not_computed_is_refused(changes, message):
    with pytest.raises(LayoutError, match=message):
        segformer.CONFIG.read({**PUBLISHED, **changes})


def test_stages_of_which_something_is_missing_are_refused():
    with pytest.raises(LayoutError, match="make no stages"):
        mit.MixTransformerConfig(depths=(1, 2))


def test_what_transformers_publishes_is_loaded_and_written_again(kind, tiny, tmp_path):
    _, reference_class, _ = KINDS[kind]
    reference = scattered(theirs_of(kind, tiny))
    reference.config.id2label = dict(enumerate("abcdefg"))
    reference.config.label2id = {name: index for index, name in reference.config.id2label.items()}
    reference.save_pretrained(tmp_path / "theirs")
    processor = transformers.SegformerImageProcessor(size={"height": 64, "width": 64}, do_reduce_labels=True)
    processor.save_pretrained(tmp_path / "theirs")
    task = bestiary.load(tmp_path / "theirs", device="cpu")
    assert task.card.task == {"mit": "image-classification", "segformer": "image-segmentation"}[kind]
    assert task.labels == tuple("abcdefg") and (task.preprocess.size, task.preprocess.fit) == (64, "squash")
    images = images_for(tiny)
    with torch.no_grad():
        assert difference(task.inference(images), reference(images).logits) <= 1e-5

    task.export(tmp_path / "ours", layout="transformers")
    again = reference_class.from_pretrained(tmp_path / "ours").eval()
    assert again.config.id2label == reference.config.id2label
    with torch.no_grad():
        assert difference(again(images).logits, reference(images).logits) <= 1e-5
    written = transformers.AutoImageProcessor.from_pretrained(tmp_path / "ours").to_dict()
    assert {**processor.to_dict(), "do_reduce_labels": False} == {**written, "do_reduce_labels": False}


def test_a_side_of_an_older_file_is_one_number(tmp_path):
    old = {"do_normalize": True, "do_resize": True, "feature_extractor_type": "SegformerFeatureExtractor", "size": 512}
    old |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "reduce_labels": True, "resample": 2}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    found = segformer.FOLDER.read(tmp_path, PUBLISHED)
    assert (found.preprocess["size"], found.preprocess["interpolation"], len(found.labels)) == (512, "bilinear", 150)
    for changes, message in (({"do_resize": False}, "do_resize: False"), ({"size": {"height": 1, "width": 2}}, "takes squares")):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({**old, **changes}))
        with pytest.raises(LayoutError, match=message):
            segformer.FOLDER.read(tmp_path, PUBLISHED)


@torch.no_grad()
def test_the_decoder_is_folded_at_inference_in_bf16_too():
    config = segformer.ARCHITECTURE.configure({**SHAPE, "decoder_width": 20})
    net, images = scattered(segformer.Segformer(config)), images_for(config)
    exact = net(images)
    low = for_inference(net.bfloat16())
    assert isinstance(low.decoder, FoldedDecoder) and low.decoder.bias.dtype == torch.bfloat16
    assert difference(low(images.bfloat16()).float(), exact) <= 0.05


def test_training_drops_blocks_more_often_the_deeper_they_lie():
    net = mit.MixTransformer(mit.MixTransformerConfig(drop_path=0.7, num_classes=3))
    rates = [block.join.drop.rate for stage in net.stages for block in stage.blocks]
    assert rates == pytest.approx([0.1 * index for index in range(8)])


def test_a_head_of_other_classes_is_all_that_is_new(tmp_path):
    assert bestiary.build("segformer-b0", num_classes=5).decoder.classifier.out_channels == 5
    assert bestiary.build("mit-b0", num_classes=5).head.out_features == 5


@pytest.mark.parametrize("name", [*mit.VARIANTS, *segformer.VARIANTS])
def test_cards_say_what_the_variants_do(name):
    card = REGISTRY.card(name)
    kind = name.partition("-")[0]
    architecture, variants = KINDS[kind][0], {"mit": mit, "segformer": segformer}[kind].VARIANTS
    assert card.architecture == kind and architecture.configure(card.config) == variants[name]
    processor = transformers.SegformerImageProcessor()
    side = 640 if name == "segformer-b5" else processor.size["height"]
    preprocess = {"fit": "squash", "size": side, "interpolation": "bilinear", "resampler": "torch"}
    assert dict(card.preprocess) == {
        **preprocess, "mean": list(processor.image_mean), "std": list(processor.image_std),
    }  # fmt: skip
    trained = f"-finetuned-ade-{side}-{side}" if kind == "segformer" else ""
    assert [source.address for source in card.sources] == [f"nvidia/{name}{trained}"]
    assert card.license == "other"
    assert card.labels == "imagenet-1k" if kind == "mit" else len(set(card.labels)) == 150
