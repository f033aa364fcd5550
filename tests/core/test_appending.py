"""Reading in pieces, with keys and values that come in and go out, gives what reading at once does."""

import pytest
import torch

from bestiary.table import find_architecture
from bestiary.text.exporting import Decoding
from tests.test_contract import CASES

NETS = ("gpt2", "llama", "gemma2", "mistral", "qwen3")  # learned positions; rotary; windows and softcap; windows; normed keys


@pytest.fixture(params=NETS)
def net(request):
    torch.manual_seed(0)
    architecture = find_architecture(request.param)
    return architecture.net(architecture.configure(CASES[request.param].config)).eval()


def nothing(net, batch):
    config = net.config
    heads, width = getattr(config, "key_value_heads", config.heads), getattr(config, "head_width", config.width // config.heads)
    return [torch.zeros(batch, 0, dtype=torch.bool), *[torch.zeros(batch, heads, 0, width)] * (2 * config.layers)]


def in_pieces(net, tokens, mask, *lengths):
    """Logits of all tokens, read so many at a time."""
    decoding, past, found = Decoding(net), nothing(net, len(tokens)), []
    for piece, kept in zip(tokens.split(lengths, 1), mask.split(lengths, 1), strict=True):
        logits, *past = decoding(piece, kept, *past)
        found.append(logits)
    return torch.cat(found, 1)


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(12,), (5, 1, 1, 5), (1,) * 12])
def test_pieces_give_what_the_whole_does(net, lengths):
    tokens = torch.arange(24).reshape(2, 12)
    found = in_pieces(net, tokens, torch.ones_like(tokens, dtype=torch.bool), *lengths)
    assert torch.allclose(found, net(tokens), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kept", [[0, 0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 1, 1, 0], [1, 1, 0, 1, 0, 1, 1, 0, 1]])
def test_padding_may_stand_anywhere(net, kept):
    tokens = torch.arange(18).reshape(2, 9)
    mask = torch.tensor([kept, [1] * 9], dtype=torch.bool)
    found = in_pieces(net, tokens, mask, 4, 3, 2)
    assert found.isfinite().all()
    for row in range(2):
        alone = net(tokens[row : row + 1, mask[row]])[0]
        assert torch.allclose(found[row, mask[row]], alone, atol=1e-5)
