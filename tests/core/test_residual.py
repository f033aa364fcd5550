"""Branches: how often they are dropped, and how they are joined."""

import pytest
import torch

from bestiary.core.residual import DropPath, Residual, drop_paths
from bestiary.core.runtime import for_inference


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    part, x = DropPath(0.25), torch.ones(4000, 2, 3)
    assert part.eval()(x) is x
    output = part.train()(x)
    assert sorted(set(output.flatten().tolist())) == pytest.approx([0, 4 / 3])
    assert torch.equal(output, output[:, :1, :1].expand_as(output))
    assert float(output.mean()) == pytest.approx(1, abs=0.05)  # 2 standard deviations are 0.02
    assert DropPath(0.0).train()(x) is x


@pytest.mark.parametrize("depths", [(1,), (2, 1, 3), (4,)])
def test_rates_rise_evenly_through_all_stages(depths):
    rates = list(drop_paths(0.5, depths))
    assert [len(of_stage) for of_stage in rates] == list(depths)
    flat = [rate for of_stage in rates for rate in of_stage]
    assert flat == pytest.approx(torch.linspace(0, 0.5, len(flat)).tolist())


@torch.no_grad()
def test_at_inference_the_sum_is_written_over_the_branch():
    join, branch, inputs = Residual(0.5).eval(), torch.randn(2, 3), torch.randn(2, 3)
    expected, before = join(branch, inputs), inputs.clone()
    assert for_inference(join)(branch, inputs) is branch and torch.equal(branch, expected)
    assert torch.equal(inputs, before)
