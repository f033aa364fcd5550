"""The parts of convolutional nets: against their definitions, and their form for inference against themselves."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bestiary.core.convolution import (
    CONVOLUTIONS,
    ConvNorm,
    SameConvolution,
    SqueezeExcite,
    symmetric,
    with_frozen_norms,
)
from bestiary.core.runtime import for_inference


def randomised(module):
    torch.manual_seed(0)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point():
            tensor.normal_()
    return module.eval()


# kernel, stride, dilation, height, width → zeros above, below, left, right: worked out by hand from TensorFlow's definition
SAME = {
    (3, 2, 1, 6, 6): (0, 1, 0, 1),
    (3, 2, 1, 7, 7): (1, 1, 1, 1),
    (3, 2, 1, 6, 7): (0, 1, 1, 1),
    (3, 2, 1, 1, 2): (1, 1, 0, 1),
    (5, 2, 1, 8, 5): (1, 2, 2, 2),
    (5, 3, 1, 7, 8): (2, 2, 1, 2),
    (3, 4, 1, 8, 5): (0, 0, 1, 1),
    (3, 2, 2, 8, 7): (1, 2, 2, 2),
    (2, 1, 1, 6, 3): (0, 1, 0, 1),
    (1, 2, 1, 6, 5): (0, 0, 0, 0),
}


@pytest.mark.parametrize("case", SAME)
def test_same_padding_is_that_of_tensorflow(case):
    kernel, stride, dilation, height, width = case
    above, below, left, right = SAME[case]
    convolution = randomised(SameConvolution(2, 3, kernel, stride, dilation=dilation))
    x = torch.randn(2, 2, height, width)
    padded = F.pad(x, (left, right, above, below))
    expected = F.conv2d(padded, convolution.weight, convolution.bias, stride, dilation=dilation)
    assert expected.shape[2:] == (-(-height // stride), -(-width // stride))
    for form in (convolution, for_inference(convolution)):
        torch.testing.assert_close(form(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("padding", CONVOLUTIONS)
@pytest.mark.parametrize("activation", [nn.ReLU6, nn.SiLU, nn.Identity])
@pytest.mark.parametrize(("kernel", "stride", "groups"), [(1, 1, 1), (3, 2, 1), (5, 2, 8), (3, 1, 8)])
def test_folding_the_norm_changes_nothing(padding, activation, kernel, stride, groups):
    part = randomised(ConvNorm(CONVOLUTIONS[padding](8, 8, kernel, stride, groups), activation(), eps=1e-3))
    state = {name: tensor.clone() for name, tensor in part.state_dict().items()}
    folded = for_inference(part)
    for size in (9, 10):
        x = torch.randn(2, 8, size, size)
        given = x.clone()
        torch.testing.assert_close(folded(x), part(x), atol=1e-5, rtol=1e-5)
        assert torch.equal(x, given)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in part.state_dict().items())
    assert not getattr(part.activation, "inplace", False)


def test_the_folded_weights_keep_the_dtype_of_the_net():
    part = randomised(ConvNorm(CONVOLUTIONS["symmetric"](8, 8, 3), nn.SiLU(), eps=1e-3)).to(torch.bfloat16)
    x = torch.randn(2, 8, 6, 6, dtype=torch.bfloat16)
    output = for_inference(part)(x)
    assert output.dtype == torch.bfloat16
    # The sum of 72 products in bf16 has an error of some 1e-2 of its size.
    assert F.cosine_similarity(output.float().flatten(), part.float()(x.float()).flatten(), dim=0) > 0.999


@pytest.mark.parametrize("gate", [None, nn.Hardsigmoid()])
def test_squeeze_excite_scales_every_channel_by_the_mean_of_all(gate):
    part = randomised(SqueezeExcite(4, 2, nn.ReLU(), gate))
    x = torch.randn(3, 4, 5, 6)
    mean = x.mean((2, 3))
    hidden = (mean @ part.reduce.weight[:, :, 0, 0].T + part.reduce.bias).relu()
    scale = hidden @ part.expand.weight[:, :, 0, 0].T + part.expand.bias
    scale = (scale / 6 + 0.5).clamp(0, 1) if gate else scale.sigmoid()
    torch.testing.assert_close(part(x), x * scale[:, :, None, None])


@torch.no_grad()
def test_at_inference_squeeze_excite_writes_over_its_input():
    part, x = randomised(SqueezeExcite(4, 2, nn.SiLU())).train(), torch.randn(3, 4, 5, 6)
    expected, before = part(x), x.clone()
    assert torch.equal(x, before)
    assert for_inference(part)(x) is x and torch.equal(x, expected)
    assert all(module.training for module in part.modules())


@torch.no_grad()
def test_a_frozen_norm_is_a_batch_norm_that_training_leaves_alone():
    part = randomised(ConvNorm(symmetric(3, 4, 3), nn.ReLU(), eps=1e-3))
    frozen = with_frozen_norms(ConvNorm(symmetric(3, 4, 3), nn.ReLU(), eps=1e-3))
    assert [name for name, _ in frozen.named_parameters()] == ["convolution.weight"]
    state = {name: value for name, value in part.state_dict().items() if not name.endswith("num_batches_tracked")}
    frozen.load_state_dict(state)
    x = torch.randn(2, 3, 6, 6)
    for form in (frozen.train(), frozen.eval(), for_inference(frozen)):
        torch.testing.assert_close(form(x), part(x))
    assert all(torch.equal(value, state[name]) for name, value in frozen.state_dict().items())
