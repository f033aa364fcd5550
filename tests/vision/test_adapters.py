"""Adapters of nets of images: those of transformers' ViT under its old and new names, and ours on convolutions."""

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import bestiary
from bestiary.core.adapt import add_adapter, load_adapter, merge_adapter
from bestiary.core.residual import DropPath
from bestiary.core.runtime import for_inference
from bestiary.errors import InputError, LayoutError
from tests.peft_adapters import close, loaded, published

IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
OLD_NAMES = {
    "layers.": "encoder.layer.",
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def vit():
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=16,
        num_labels=3,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


@pytest.mark.parametrize("names", ["of release 5", "of release 4"])
def test_published_adapters_of_vit_compute_what_peft_does(names, tmp_path):
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"]
    theirs = published(vit(), tmp_path, target_modules=targets, modules_to_save=["classifier"])
    if names == "of release 4":
        path = tmp_path / "adapter" / "adapter_model.safetensors"
        state = load_file(path)
        for new, old in OLD_NAMES.items():
            state = {name.replace(new, old): tensor for name, tensor in state.items()}
        save_file(state, path)
    net, layouts = loaded("vit", tmp_path, num_classes=3)
    plain, expected = net(IMAGES), theirs(pixel_values=IMAGES).logits
    load_adapter(net, tmp_path / "adapter", layouts)
    assert close(net(IMAGES), expected) and not close(plain, expected)
    assert close(merge_adapter(net)(IMAGES), expected)


@pytest.fixture
def classify():
    torch.manual_seed(0)
    task = bestiary.load("efficientnet-lite0")
    add_adapter(task.net, 4, targets=("convolution",))
    with torch.no_grad():
        for name, parameter in task.net.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.02)
    return task


def test_convolutions_keep_their_statistics_while_the_adapter_is_trained(classify):
    before = {name: tensor.clone() for name, tensor in classify.net.state_dict().items() if "lora" not in name}
    expected = for_inference(classify.net)(IMAGES)
    classify.net.train()
    for part in classify.net.modules():  # what is random
        if isinstance(part, DropPath):
            part.rate = 0.0
    classify.net.dropout.p = 0.0
    assert close(classify.net(IMAGES), expected)
    classify.net(IMAGES).sum().backward()
    after = classify.net.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    classify.net.eval()
    merged = merge_adapter(classify.net)
    assert close(merged(IMAGES), expected)
    assert set(merged.state_dict()) == set(bestiary.build("efficientnet-lite0").state_dict())
    statistics = merged.top.norm.running_mean.clone()
    merged.train()(IMAGES)
    assert not torch.equal(merged.top.norm.running_mean, statistics)  # a plain net, trained as any


def test_an_adapter_of_convolutions_comes_back_from_its_folder(classify, tmp_path):
    classify.save_adapter(tmp_path / "adapter")
    assert close(bestiary.load(tmp_path / "adapter").net(IMAGES), classify.net(IMAGES))


def test_an_adapter_of_another_net_is_refused(classify, tmp_path):
    classify.save_adapter(tmp_path / "adapter")
    (tmp_path / "adapter" / "README.md").unlink()
    with pytest.raises(LayoutError, match="does not fit the net"):
        bestiary.load("minilm-l6-v2").load_adapter(tmp_path / "adapter")


def test_a_net_without_attention_says_what_it_has():
    with pytest.raises(InputError, match="no layers in 'attention' to adapt\ntargets of its own: convolution"):
        add_adapter(bestiary.build("efficientnet-lite0"))
