"""Adapters: what is trained, what stays, and that one is neither lost nor counted twice."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from bestiary.core.adapt import add_adapter, has_adapter, load_adapter, merge_adapter, save_adapter
from bestiary.core.groups import parameter_groups
from bestiary.core.packing import Ragged
from bestiary.core.quantise import quantise_for_decoding
from bestiary.core.rows import for_decoding
from bestiary.core.runtime import InferenceNet, merged
from bestiary.core.training import for_training
from bestiary.errors import InputError
from bestiary.table import find_architecture

CONFIG = {
    "layers": 2, "width": 32, "heads": 4, "key_value_heads": 2, "head_width": 8, "hidden": 48, "vocabulary": 50, "positions": 16,
    "theta": 1e4, "eps": 1e-5,
}  # fmt: skip
TOKENS, MASK = torch.arange(12) * 4, Ragged((5, 4, 3))


def decoder():
    torch.manual_seed(0)
    architecture = find_architecture("qwen2")
    return architecture.build(architecture.configure({**CONFIG, "qkv_bias": True}))


def disturb(net):
    """Make the adapter change something."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "lora_" in name:
                parameter.add_(torch.rand_like(parameter) * 0.3)
    return net


@pytest.fixture(params=["lora", "dora"])
def adapted(request):
    return disturb(add_adapter(decoder(), 4, alpha=6, targets=("attention", "mlp"), dora=request.param == "dora"))


def close(a, b):
    return float((a - b).detach().abs().max()) <= 1e-5 * max(1.0, float(b.detach().abs().max()))


def test_a_new_adapter_changes_nothing_and_the_state_of_the_base_stays():
    plain = decoder()
    net = add_adapter(decoder(), 4)
    assert torch.equal(net(TOKENS, MASK), plain(TOKENS, MASK))
    state = {name.replace(".base_layer", ""): tensor for name, tensor in net.state_dict().items() if ".lora_" not in name}
    assert state.keys() == plain.state_dict().keys()
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in state.items())


@pytest.mark.parametrize("trained", [(), ("head",)])
def test_gradients_reach_the_adapter_and_what_is_trained_alone(trained):
    net = disturb(add_adapter(decoder(), 4, targets=("attention", "mlp"), trained=trained))
    net(TOKENS, MASK).square().sum().backward()
    reached = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    layers = [f"blocks.{i}.{part}" for i in range(2) for part in ("attention.query", "attention.key", "attention.value")]
    layers += [f"blocks.{i}.{part}" for i in range(2) for part in ("attention.output", "mlp.gate", "mlp.up", "mlp.down")]
    expected = {f"{layer}.{factor}.default.weight" for layer in layers for factor in ("lora_A", "lora_B")}
    assert reached == expected | {f"{name}.weight" for name in trained}


def test_targets_are_parts_by_their_names():
    net = add_adapter(decoder(), 4, targets=("query", "down"))
    adapted = {name.partition(".lora_A")[0] for name, _ in net.named_parameters() if "lora_A" in name}
    assert adapted == {f"blocks.{i}.{part}" for i in range(2) for part in ("attention.query", "mlp.down")}


def test_merged_is_unmerged(adapted):
    expected, names = adapted(TOKENS, MASK), list(decoder().state_dict())
    twin = merged(adapted)
    assert close(twin(TOKENS, MASK), expected) and list(twin.state_dict()) == names
    assert has_adapter(adapted) and not has_adapter(twin)
    net = merge_adapter(adapted)
    assert net is adapted and close(net(TOKENS, MASK), expected) and list(net.state_dict()) == names
    assert all(parameter.requires_grad for parameter in net.parameters())
    add_adapter(net, 2)  # once more


def test_merging_leaves_the_weights_of_the_base_to_others(adapted):
    weight = adapted.blocks[0].attention.query.base_layer.weight
    before = weight.clone()
    merge_adapter(adapted)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("form", [for_decoding, lambda net: quantise_for_decoding(net, "int8")], ids=["decoding", "int8"])
def test_forms_for_inference_hold_the_adapter(adapted, form):
    adapted.eval()
    plain, found, expected = decoder().eval()(TOKENS, MASK), form(adapted)(TOKENS, MASK), adapted(TOKENS, MASK)
    assert (found - expected).abs().max() < 0.05 * (plain - expected).abs().max()


def test_inference_follows_the_training_of_an_adapter(adapted):
    infer = InferenceNet(adapted.eval())
    assert close(infer(TOKENS, MASK), adapted(TOKENS, MASK))
    optimizer = torch.optim.AdamW([parameter for parameter in adapted.parameters() if parameter.requires_grad], lr=0.1)
    adapted(TOKENS, MASK).square().sum().backward()
    before = infer(TOKENS, MASK).clone()
    optimizer.step()
    assert close(infer(TOKENS, MASK), adapted(TOKENS, MASK)) and not close(infer(TOKENS, MASK), before)


@pytest.mark.parametrize("shape", [(12,), (3, 4)], ids=["packed", "padded"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_faster_step_is_the_same(adapted, shape, dropout):
    """Results and gradients, of inputs too, to a few last bits."""
    for part in adapted.modules():
        if hasattr(part, "lora_dropout") and dropout:
            part.lora_dropout["default"] = nn.Dropout(dropout)
    fast = for_training(copy.deepcopy(adapted))
    arguments = (TOKENS, MASK) if shape == (12,) else (TOKENS.reshape(shape),)
    found = []
    for net in (adapted, fast):
        torch.manual_seed(2)
        output = net.train()(*arguments)
        output.square().mean().backward()
        found.append([output, *(parameter.grad for parameter in net.parameters() if parameter.requires_grad)])
    assert [name for name, _ in fast.named_parameters()] == [name for name, _ in adapted.named_parameters()]
    assert all(close(*pair) for pair in zip(*found, strict=True))


def test_groups_of_the_optimizer_hold_the_adapter_alone(adapted):
    groups = parameter_groups(adapted, lr=1e-3, decay=0.5, weight_decay=0.1)
    held = {id(parameter) for group in groups for parameter in group["params"]}
    assert held == {id(parameter) for name, parameter in adapted.named_parameters() if "lora_" in name}


def test_copies_and_pickles_hold_the_adapter(adapted):
    expected = adapted(TOKENS, MASK)
    for twin in (copy.deepcopy(adapted), pickle.loads(pickle.dumps(adapted))):
        assert torch.equal(twin(TOKENS, MASK), expected) and has_adapter(twin)


def test_saved_is_loaded_to_be_trained_on(adapted, tmp_path):
    paths = save_adapter(adapted, tmp_path)
    assert sorted(path.name for path in paths) == ["adapter_config.json", "adapter_model.safetensors"]
    net = load_adapter(decoder(), tmp_path)
    assert torch.equal(net(TOKENS, MASK), adapted(TOKENS, MASK))
    trained = [[name for name, parameter in one.named_parameters() if parameter.requires_grad] for one in (net, adapted)]
    assert trained[0] == trained[1]
    second = tmp_path / "second"
    second.mkdir()
    save_adapter(net, second)
    assert all((second / path.name).read_bytes() == path.read_bytes() for path in paths)


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"rank": 0}, "rank=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"targets": ("convolution",)}, "no layers in 'convolution' to adapt\ntargets of its own: attention, mlp"),
        ({"trained": ("neck",)}, "no weights in 'neck' to be trained\nits parts with weights: embedding, blocks, norm, head"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(keywords, error):
    net = decoder()
    with pytest.raises(InputError, match=error):
        add_adapter(net, **{"rank": 4, **keywords})
    assert not has_adapter(net) and all(parameter.requires_grad for parameter in net.parameters())


def test_one_adapter_at_a_time(adapted):
    with pytest.raises(InputError, match="has an adapter already"):
        add_adapter(adapted, 4)


def test_quantised_weights_are_refused():
    with pytest.raises(InputError, match="quantised"):
        add_adapter(quantise_for_decoding(decoder(), "int8"), 4)


def test_there_has_to_be_something_to_save(tmp_path):
    with pytest.raises(InputError, match="no adapter to save"):
        save_adapter(decoder(), tmp_path)
    with pytest.raises(InputError, match=r"has no adapter_config\.json"):
        load_adapter(decoder(), tmp_path)


def test_weights_that_are_no_numbers_are_not_merged(adapted):
    with torch.no_grad():
        adapted.blocks[1].mlp.up.lora_B["default"].weight.fill_(torch.nan)
    with pytest.raises(InputError, match="no numbers"):
        merge_adapter(adapted)
    assert has_adapter(adapted)


def test_without_peft_the_extra_is_named():
    code = """
import sys
sys.modules["peft"] = None
from torch import nn
from bestiary.core.adapt import add_adapter
from bestiary.errors import InputError
try:
    add_adapter(nn.ModuleDict({"mlp": nn.Linear(2, 2)}), targets=["mlp"])
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("pip install 'bestiary[train]'\n")
