"""What every architecture promises: one test, run for each of them. A new architecture adds a tiny config and its inputs."""

import copy
import pickle
import sys
from dataclasses import dataclass

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from bestiary.core import weights
from bestiary.core.adapt import add_adapter, merge_adapter
from bestiary.core.export import onnx, program
from bestiary.core.export.graph import Graph
from bestiary.core.groups import blocks_of
from bestiary.core.packing import Ragged
from bestiary.core.quantise import ROWS_TOO, WEIGHTS_ALONE, quantise, torchao_form
from bestiary.core.residual import DropPath
from bestiary.core.rows import with_linears
from bestiary.core.runtime import InferenceNet, for_inference
from bestiary.table import ARCHITECTURES, find_architecture
from bestiary.vision.backbone import Backbone


@dataclass(frozen=True)
class Case:
    config: dict
    inputs: callable  # device → the arguments of a batch of three
    layouts: tuple[str, ...] | None = None  # published ones that can say this config; None: all of the architecture's


def tokens_and_mask(device):
    tokens = torch.arange(21, device=device).reshape(3, 7)
    return tokens, torch.arange(7, device=device) < torch.tensor([[7], [5], [2]], device=device)


def texts_and_their_beginnings(device):
    tokens, mask = tokens_and_mask(device)
    return tokens, tokens[:, :4] + 1, mask, mask[:, :4]


def images(device):
    return (torch.linspace(-1, 1, 3 * 3 * 64 * 64, device=device).reshape(3, 3, 64, 64),)


def scenes(device):
    return images(device)  # of nets that answer for every place, and have no pooled features


def images_and_mask(device):
    places, sides = torch.arange(64, device=device), torch.tensor([[64, 64], [64, 33], [40, 64]], device=device)
    rows, columns = (places < side[:, None] for side in sides.T)
    return *images(device), rows[:, :, None] & columns[:, None]


def spectra_and_texts(device):
    """Windows of sound, and the beginnings of what was said in them."""
    _, tokens, _, mask = texts_and_their_beginnings(device)
    return torch.linspace(-1, 1, 3 * 8 * 24, device=device).reshape(3, 8, 24), tokens, mask


OF_IMAGES = (images, scenes, images_and_mask)
def sounds_and_mask(device):
    moments, lengths = torch.arange(200, device=device), torch.tensor([[200], [151], [64]], device=device)
    mask = moments < lengths
    return torch.sin(moments**1.5 / lengths) * mask, mask


def spectrograms(device):
    return (torch.linspace(-1, 1, 3 * 24 * 16, device=device).cos().reshape(3, 24, 16),)


def sounds(device):
    return (torch.sin(torch.arange(3 * 256, device=device) ** 1.5 / 100).reshape(3, 256),)


OF_TEXT = (tokens_and_mask, texts_and_their_beginnings)
TEXT, IMAGE = ("batch", "length"), ("batch", 3, "height", "width")
AXES = {  # of the inputs, by name where a graph leaves them free
    tokens_and_mask: (TEXT, TEXT),
    texts_and_their_beginnings: (TEXT, ("batch", "answer"), TEXT, ("batch", "answer")),
    images: (IMAGE,),
    scenes: (IMAGE,),
    images_and_mask: (IMAGE, ("batch", "height", "width")),
    spectra_and_texts: (("batch", 8, 24), ("batch", "answer"), ("batch", "answer")),
    sounds_and_mask: (("batch", "samples"), ("batch", "samples")),
    spectrograms: (("batch", 24, 16),),
    sounds: (("batch", 256),),
}
SIZES = (
    {},
    {"batch": 2, "length": 11, "answer": 6, "height": 70, "width": 91, "samples": 233},
    {"batch": 1, "length": 5, "answer": 9, "samples": 97},
)
ENCODER = {"layers": 2, "width": 32, "heads": 4, "hidden": 48, "vocabulary": 50, "positions": 16}
DECODER = {
    "layers": 2,
    "width": 32,
    "heads": 4,
    "key_value_heads": 2,
    "head_width": 6,
    "hidden": 48,
    "vocabulary": 50,
    "positions": 16,
    "theta": 1e4,
    "eps": 1e-5,
}
GEMMA = {**DECODER, "tied": True, "norm": "rms_offset", "activation": "gelu_tanh", "embedding_scale": 32**0.5}
LLAMA3 = {"kind": "llama3", "factor": 4, "slow": 1, "fast": 4, "trained": 8}
STAGES = ((3, 1, 1, 8, 1), (3, 2, 2, 16, 2), (5, 2, 2, 24, 1))
LINES = (((3, 8, 8, True, "relu", 1),), ((3, 24, 16, False, "relu", 2), (5, 32, 16, True, "hard_swish", 1)))
MIT = {
    "depths": (1, 2),
    "widths": (8, 16),
    "heads": (1, 2),
    "reductions": (2, 1),
    "expansions": (2, 2),
    "patches": (7, 3),
    "strides": (4, 2),
}
SPEECH = {
    **{"layers": 2, "width": 32, "heads": 4, "hidden": 48, "position_kernel": 8, "position_groups": 4},
    **{"stem_widths": (8, 12), "stem_kernels": (6, 3), "stem_strides": (3, 2)},
}
CASES = {
    "ast": Case(
        {
            **{"frames": 24, "mels": 16, "patch": 8, "mel_stride": 6, "frame_stride": 5},
            **{"layers": 2, "width": 32, "heads": 4, "hidden": 48, "num_classes": 5},
        },
        spectrograms,
    ),
    "bert": Case(ENCODER, tokens_and_mask),
    "convnext": Case({"depths": [1, 2], "widths": [8, 16], "num_classes": 5}, images),
    "crepe": Case({"widths": (8, 4, 4), "window": 256, "first_kernel": 32, "kernel": 8, "bins": 10}, sounds),
    "depth": Case(
        {
            "encoder": {"image": 48, "layers": 3, "width": 32, "heads": 4, "hidden": 48, "layer_scale": 0.1, "num_classes": 0},
            **{"layers": (0, 1, 2), "widths": (4, 8, 8), "scales": (2, 1, 0.5), "fusion_width": 8, "head_width": 4},
        },
        scenes,
    ),
    "detr": Case(
        {
            "backbone": {"block": "basic", "depths": (1, 1, 1), "width": 8, "group_width": 8, "num_classes": 0},
            **{"layers": 2, "decoder_layers": 2, "width": 32, "heads": 4, "hidden": 48, "queries": 5, "num_classes": 3},
        },
        images_and_mask,
    ),
    "distilbert": Case({**ENCODER, "segments": 0, "pooler": "relu", "head": "classes", "num_classes": 3}, tokens_and_mask),
    "efficientnet": Case(
        {"stem": 8, "top": 32, "stages": STAGES, "num_classes": 5, "padding": "same"},
        images,
        layouts=("timm", "efficientnet-lite-pytorch"),
    ),
    "gemma": Case(GEMMA, tokens_and_mask),
    "gemma2": Case(
        {**GEMMA, "order": "sandwich", "windows": [3, None], "query_scalar": 9, "softcap": 5.0, "logits_softcap": 3.0},
        tokens_and_mask,
    ),
    "gemma3": Case(
        {**GEMMA, "order": "sandwich", "windows": [3, None], "local_theta": 100.0, "query_key_norm": True},
        tokens_and_mask,
    ),
    "gpt2": Case(ENCODER, tokens_and_mask),
    "hubert": Case(
        {**SPEECH, "order": "pre", "stem_norm": "layer", "stem_bias": True, "projection_norm": "none"}, sounds_and_mask
    ),
    "llama": Case({**DECODER, "scaling": LLAMA3, "tied": True}, tokens_and_mask),
    "mistral": Case({**DECODER, "windows": [3]}, tokens_and_mask),
    "mit": Case({**MIT, "num_classes": 5}, images),
    "mobilenetv3": Case({"stem": 8, "top": 32, "pooled": 16, "stages": LINES, "num_classes": 5}, images),
    "modernbert": Case(
        {**ENCODER, "layers": 3, "window": 2, "head": "classes", "num_classes": 3, "pooling": "mean"}, tokens_and_mask
    ),
    "qwen2": Case({**DECODER, "qkv_bias": True}, tokens_and_mask),
    "qwen3": Case({**DECODER, "query_key_norm": True, "tied": True}, tokens_and_mask),
    "resnet": Case({"depths": (1, 2, 1), "width": 8, "groups": 2, "group_width": 4, "num_classes": 5}, images),
    "roberta": Case({**ENCODER, "segments": 1, "head": "mask"}, tokens_and_mask),
    "segformer": Case({**MIT, "decoder_width": 12, "num_classes": 5}, scenes),
    "silero-vad": Case(
        {"frame": 32, "context": 4, "window": 16, "widths": (6, 4, 4, 8), "hidden": 8},
        sounds,
        layouts=("silero", "silero-archive"),
    ),
    "swin": Case({"window": 3, "depths": (2, 1), "heads": (2, 4), "width": 8, "num_classes": 5}, images),
    "t5": Case(
        {"layers": 2, "decoder_layers": 2, "width": 32, "heads": 4, "head_width": 6, "hidden": 48, "vocabulary": 50},
        texts_and_their_beginnings,
    ),
    "vit": Case({"image": 48, "patch": 16, "layers": 2, "width": 32, "heads": 4, "hidden": 48, "num_classes": 5}, images),
    "whisper": Case(
        {
            **{"layers": 2, "decoder_layers": 1, "width": 32, "heads": 4, "hidden": 48, "vocabulary": 50},
            **{"mels": 8, "frames": 12, "context": 16},
        },
        spectra_and_texts,
    ),
    "wav2vec2": Case({**SPEECH, "num_classes": 5}, sounds_and_mask),
    "xlm-roberta": Case({**ENCODER, "segments": 1, "head": "tokens", "num_classes": 3}, tokens_and_mask),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def architecture(request, case):
    return find_architecture(request.node.callspec.params["case"])


@pytest.fixture
def net(architecture, case):
    torch.manual_seed(0)
    net = architecture.net(architecture.configure(case.config)).eval()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():  # no zeros and ones, behind which a mistake could hide
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5 if "norm" in name else torch.randn_like(tensor) * 0.2)
    return net


@pytest.fixture
def inputs(case):
    return case.inputs("cpu")


def parts(output):
    """The tensors of an output, which is one or a tuple of them."""
    return output if isinstance(output, tuple) else (output,)


def close(a, b):
    pairs = [(a.detach(), b.detach()) for a, b in zip(parts(a), parts(b), strict=True)]
    return all(float((a - b).abs().max()) <= 1e-5 * max(1.0, float(b.abs().max())) for a, b in pairs)


def test_every_architecture_has_a_case():
    assert set(CASES) == set(ARCHITECTURES)


def test_output_is_finite_and_the_batch_kept(net, inputs):
    assert all(len(part) == 3 and part.isfinite().all() for part in parts(net(*inputs)))


def test_gradients_reach_every_parameter(net, inputs):
    net.train()
    sum(part.square().sum() for part in parts(net(*inputs))).backward()
    # A norm after a bias takes the bias away again, and segment embeddings are asked for sentence A only.
    reached = [name for name, parameter in net.named_parameters() if parameter.grad is not None]
    assert reached == [name for name, _ in net.named_parameters()]


def test_one_input_alone_gives_what_it_gives_among_others(net, inputs):
    together = parts(net(*inputs))
    for index in range(3):
        alone = net(*(value[index : index + 1] for value in inputs))
        assert close(alone, tuple(part[index : index + 1] for part in together))


def test_the_form_for_inference_computes_the_same(net, inputs):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert close(for_inference(net)(*inputs), net(*inputs))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert net.state_dict().keys() == before.keys()


def test_inference_follows_a_change_of_weights(net, inputs):
    infer = InferenceNet(net)
    infer(*inputs)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)
    assert close(infer(*inputs), net(*inputs))


@pytest.mark.parametrize("layout", ["native", "published"])
def test_saved_is_loaded(net, architecture, case, inputs, tmp_path, layout):
    layouts = ["native"] if layout == "native" else list(case.layouts or architecture.layouts)
    for layout in layouts:
        path = tmp_path / f"{layout}.safetensors"
        weights.save(net, path, architecture.rules(layout, net.config, list(net.state_dict())))
        loaded = weights.load(architecture, net.config, path, layout)
        assert all(close(loaded.state_dict()[name], tensor) for name, tensor in net.state_dict().items())
        assert close(loaded(*inputs), net(*inputs))  # products round by how their weights lie in memory


def test_copies_and_pickles_compute_the_same(net, inputs):
    expected = parts(net(*inputs))
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert all(map(torch.equal, parts(twin(*inputs)), expected))


ADAPTED = {
    "convnext": "mlp",
    "crepe": "head",
    **dict.fromkeys(("efficientnet", "mobilenetv3", "resnet"), "convolution"),
    "silero-vad": "lstm",
}


def test_replicas_of_data_parallel_compute_the_same(net, inputs, monkeypatch):
    """What DataParallel does on two devices but for sending tensors there, which takes two GPUs: they are cloned instead."""
    module = sys.modules["torch.nn.parallel.replicate"]
    copies = "_broadcast_coalesced_reshape"
    monkeypatch.setattr(module, copies, lambda tensors, devices, detach=False: [[t.clone() for t in tensors] for _ in devices])
    expected = parts(net(*inputs))
    first, second = module.replicate(net, [0, 1])
    halves = [parts(first(*(value[:2] for value in inputs))), parts(second(*(value[2:] for value in inputs)))]
    assert close(tuple(map(torch.cat, zip(*halves, strict=True))), expected)
    sum(part.square().sum() for half in halves for part in half).backward()
    reached = [name for name, parameter in net.named_parameters() if parameter.grad is not None]
    assert reached == [name for name, _ in net.named_parameters()]


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_an_adapter_is_trained_alone_and_merges(architecture, net, inputs, dora):
    names = list(net.state_dict())
    add_adapter(net, 4, targets=(ADAPTED.get(architecture.name, "attention"),), dora=dora)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "lora_" in name:
                parameter.add_(torch.rand_like(parameter) * 0.1)
    output = net(*inputs)
    sum(part.square().sum() for part in parts(output)).backward()
    reached = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in net.named_parameters() if "lora_" in name}
    assert close(merge_adapter(net)(*inputs), output)
    assert list(net.state_dict()) == names


@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case.inputs in OF_IMAGES], indirect=True)
def test_checkpointed_training_computes_the_same(net, inputs):
    """Results, gradients and statistics to the last bit, though blocks are computed twice and now and then dropped."""
    counts, found = [], []
    for checkpoint in (False, True):
        twin, calls = copy.deepcopy(net).train(), []
        backbone = next(part for part in twin.modules() if isinstance(part, Backbone))
        backbone.checkpoint = checkpoint
        for part in twin.modules():
            if isinstance(part, DropPath):
                part.rate = 0.3
        for block in blocks_of(backbone):
            block.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        torch.manual_seed(0)
        outputs = parts(twin(*inputs))
        sum(part.square().sum() for part in outputs).backward()
        counts.append(len(calls))
        found.append([*outputs, *(parameter.grad for parameter in twin.parameters()), *twin.buffers()])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    assert counts[1] == 2 * counts[0] > 0


@pytest.mark.parametrize("case", [name for name in CASES if ADAPTED.get(name, "mlp") == "mlp"], indirect=True)
@torch.inference_mode()
def test_8_bits_give_nearly_the_same(net, inputs):
    """By the kernels of the CPU, and by those of torchao for other devices."""
    expected = parts(net(*inputs))
    forms = (torchao_form("int8", torch.device("cpu"), config) for config in (WEIGHTS_ALONE, ROWS_TOO))
    quantised = [quantise(net, "int8"), *(with_linears(for_inference(net), form) for form in forms)]
    for twin in quantised:
        assert not all(map(torch.equal, parts(twin(*inputs)), expected))
        for part, wanted in zip(parts(twin(*inputs)), expected, strict=True):
            assert (part - wanted).norm() < 0.1 * wanted.norm()


# The graph is what can break; what a backend makes of it is torch's business, and takes minutes.
def check_compiled(net, *inputs):
    expected = copy.deepcopy(net)(*inputs)  # statistics of norms move on while training
    torch._dynamo.reset()  # nets share code, and what was compiled for others counts towards a limit
    assert close(torch.compile(net, fullgraph=True, backend="aot_eager")(*inputs), expected)


@pytest.mark.parametrize("mode", ["evaluating", "training"])
def test_compiles_without_a_break(net, inputs, mode):
    for part in net.train(mode == "training").modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    check_compiled(net, *inputs)


@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case.inputs in OF_TEXT], indirect=True)
def test_compiles_for_packed_rows_without_a_break(net):
    check_compiled(getattr(net, "encoder", net), torch.arange(12), Ragged((5, 3, 3, 1)))


def graph_of(net, case):
    """The net with every axis free that it leaves free."""
    inputs, axes, one_size = case.inputs("cpu"), AXES[case.inputs], getattr(net, "one_size", None)
    if one_size is not None:
        axes = tuple(tuple(64 if axis in ("height", "width") else axis for axis in own) for own in axes)
    names = [f"input {place}" for place in range(len(inputs))]
    free = dict.fromkeys(axis for own in axes for axis in own if isinstance(axis, str))

    def inputs_of(sizes):
        """Longer ones repeat what is there."""
        for own, value in zip(axes, inputs, strict=True):
            for place, axis in enumerate(own):
                if axis in free:
                    value = value.index_select(place, torch.arange(sizes.get(axis, value.shape[place])) % value.shape[place])
            yield value

    answers = len(parts(net(*inputs)))
    return Graph(
        name="net",
        net=Tupled(net),
        inputs=dict(zip(names, axes, strict=True)),
        outputs={f"output {place}": () for place in range(answers)},
        ranges={axis: (64 if axis in ("height", "width", "samples") else 1, None) for axis in free},
        inputs_of=lambda sizes: list(inputs_of(sizes)),
        sizes=SIZES,
    )


class Tupled(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, *inputs):
        return tuple(parts(self.net(*inputs)))


@pytest.mark.parametrize("form", [onnx, program], ids=["onnx", "torch.export"])
def test_graphs_with_free_sizes_compute_the_same(net, case, form, tmp_path):
    """Every net in batches of any size, texts of any length, images of any size unless the next test tells why not."""
    written = form.write(graph_of(net, case), tmp_path)
    assert written.difference <= 1e-4
    assert {"batch"} < {axis for axes in written.inputs.values() for axis in axes if isinstance(axis, str)} or net.one_size


@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case.inputs in OF_IMAGES], indirect=True)
def test_graphs_take_images_of_any_size(net, case):
    if reason := getattr(net, "one_size", None):
        pytest.skip(f"images of one size, since {reason}")
    assert {"height", "width"} <= graph_of(net, case).ranges.keys()


def test_computes_in_bf16(net, inputs):
    net.to(torch.bfloat16)
    outputs = parts(net(*(value.to(torch.bfloat16) if value.is_floating_point() else value for value in inputs)))
    assert all(part.dtype == torch.bfloat16 and part.isfinite().all() for part in outputs)


@pytest.mark.parametrize("form", [lambda net: net, for_inference], ids=["plain", "for_inference"])
def test_runs_on_another_device(architecture, case, form):
    """Every tensor made on the way lies where the inputs lie; shown on a pretended CUDA device, which needs none."""
    without_cudnn = torch.backends.cudnn.flags(enabled=False)  # which asks the device whether it can compute an LSTM
    with FakeTensorMode(shape_env=ShapeEnv()), torch.device("cuda"), without_cudnn:
        net = architecture.net(architecture.configure(case.config)).eval()
        output = form(net)(*case.inputs("cuda"))
    tensors = [*net.parameters(), *net.buffers(), *parts(output)]
    assert {tensor.device.type for tensor in tensors} == {"cuda"}
