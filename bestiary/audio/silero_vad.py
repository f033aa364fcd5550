"""Silero VAD: how probable speech is in every 32 ms of a sound (Silero Team 2021, github.com/snakers4/silero-vad).

Each frame becomes one vector by itself: a Fourier transform and convolutions over its few columns. An LSTM (Hochreiter and
Schmidhuber 1997) then follows these vectors, and only it depends on what was before; so all frames are computed at once but
for the LSTM.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.keymap import Rule, each, ignored, linear, prefixed, same
from bestiary.core.operations import unsqueezed
from bestiary.errors import LayoutError

TINY = 1e-24  # power below which a tone is silence; without a limit the square root has no gradient there


@dataclass(frozen=True, kw_only=True)
class SileroVadConfig:
    """The defaults are those of the published net, for 16 kHz."""

    frame: int = 512  # samples that one probability is about
    context: int = 64  # samples before a frame that are seen with it
    window: int = 256  # samples of a Fourier transform; the next begins half of them later
    widths: tuple[int, ...] = (128, 64, 64, 128)  # channels of the convolutions over the columns of a frame
    strides: tuple[int, ...] = (1, 2, 2, 1)  # of them, such that one column is left
    hidden: int = 128  # size of the state of the LSTM

    def __post_init__(self) -> None:
        columns = (self.seen - self.window) // (self.window // 2) + 1 if self.window > 3 else 0
        if not 0 < columns <= prod(self.strides) or len(self.strides) != len(self.widths):
            what = f"a frame of {self.frame} samples has {columns} columns of {self.window}, and strides {self.strides}"
            raise LayoutError(f"{what}\ngive each width a stride, such that one column is left")

    @property
    def margin(self) -> int:
        """Samples that are mirrored at the end of a frame."""
        return self.window // 4

    @property
    def seen(self) -> int:
        """Samples that the Fourier transforms of a frame see."""
        return self.context + self.frame + self.margin


class State(NamedTuple):
    """What the frames before leave to those that follow."""

    context: Tensor  # (batch, context): the last samples
    hidden: Tensor  # (batch, hidden)
    cell: Tensor  # (batch, hidden)


class SileroVad(nn.Module):
    """Samples (batch, n) at 16 kHz to probabilities of speech (batch, n / 512, rounded up); zeros fill the last frame.

    >>> net = SileroVad(SileroVadConfig()).eval()
    >>> sound = torch.randn(1, 16000) / 10
    >>> net(sound).shape
    torch.Size([1, 32])
    >>> first, state = net.advance(sound[:, :5120])
    >>> second, _ = net.advance(sound[:, 5120:], state)
    >>> torch.allclose(torch.cat([first, second], dim=1), net(sound), atol=1e-5)
    True
    """

    one_size = "a graph holds the LSTM once for each frame"

    def __init__(self, config: SileroVadConfig):
        super().__init__()
        self.config = config
        bins = config.window // 2 + 1
        self.fourier = nn.Conv1d(1, 2 * bins, config.window, config.window // 2, bias=False)  # real parts, then imaginary ones
        ends = zip((bins, *config.widths), config.widths, config.strides, strict=False)
        self.encoder = nn.ModuleList(Column(*sizes) for sizes in ends)
        self.lstm = Lstm(config.widths[-1], config.hidden)
        self.head = nn.Linear(config.hidden, 1)

    def forward(self, samples: Tensor) -> Tensor:
        return self.advance(samples)[0]

    def advance(self, samples: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The same for the next samples of a sound, after those that left `state`, and what these leave."""
        if state is None:
            zeros = samples.new_zeros(samples.shape[0], self.config.hidden)
            state = State(samples.new_zeros(samples.shape[0], self.config.context), zeros, zeros)
        samples = F.pad(samples, (0, -samples.shape[1] % self.config.frame))
        samples = torch.cat([state.context, samples], dim=1)
        vectors = self.encode(self.frames(samples))  # (batch, frames, width)
        hidden, last, cell = self.lstm(vectors, state.hidden, state.cell)
        probabilities = self.head(hidden.relu()).squeeze(-1).sigmoid()  # (batch, frames)
        return probabilities, State(samples[:, samples.shape[1] - self.config.context :], last, cell)

    def frames(self, samples: Tensor) -> Tensor:
        """Samples, the context of the first frame before them, to (batch, frames, context + frame)."""
        return samples.unfold(1, self.config.context + self.config.frame, self.config.frame)

    def encode(self, frames: Tensor) -> Tensor:
        """Each frame as a vector: (batch, frames, context + frame) → (batch, frames, width)"""
        x = F.pad(frames.flatten(0, 1)[:, None], (0, self.config.margin), mode="reflect")  # (batch · frames, 1, seen)
        real, imaginary = self.fourier(x).chunk(2, dim=1)  # each (batch · frames, bins, columns)
        x = (real.square() + imaginary.square()).clamp(min=TINY).sqrt()
        for layer in self.encoder:
            x = layer(x)
        return x.squeeze(-1).unflatten(0, frames.shape[:2])


class Column(nn.Module):
    """A convolution over the columns of a frame and a ReLU: (n, inputs, columns) → (n, outputs, columns / stride)"""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.convolution = nn.Conv1d(inputs, outputs, 3, stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x).relu()


class Lstm(nn.Module):
    """Vectors (batch, frames, inputs) and the states before them to the states at each, and the last two."""

    def __init__(self, inputs: int, hidden: int):
        super().__init__()
        self.input = nn.Linear(inputs, 4 * hidden)  # what is let in, what is kept, what is new, what is let out
        self.recurrent = nn.Linear(hidden, 4 * hidden)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states = []
        for step in self.input(x).unbind(1):
            let_in, kept, new, let_out = (step + self.recurrent(hidden)).chunk(4, dim=-1)  # each (batch, hidden)
            cell = kept.sigmoid() * cell + let_in.sigmoid() * new.tanh()
            hidden = let_out.sigmoid() * cell.tanh()
            states.append(hidden)
        return torch.stack(states, dim=1), hidden, cell

    def for_inference(self) -> nn.Module:
        return FusedLstm(self)


class FusedLstm(nn.Module):
    """The same by the kernel of torch, which cannot be traced."""

    def __init__(self, lstm: Lstm):
        super().__init__()
        self.lstm = nn.LSTM(lstm.input.in_features, lstm.recurrent.in_features, batch_first=True, device="meta")
        parts = {"ih": lstm.input, "hh": lstm.recurrent}
        for name, part in parts.items():
            for kind in ("weight", "bias"):
                setattr(self.lstm, f"{kind}_{name}_l0", nn.Parameter(getattr(part, kind).detach(), requires_grad=False))
        self.lstm.flatten_parameters()

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states, (hidden, cell) = self.lstm(x, (hidden[None], cell[None]))
        return states, hidden[0], cell[0]


OF_ARCHIVE = ("_model", "_model_8k")  # the nets in the TorchScript archive, for 16 and for 8 kHz


def safetensors_layout(config: SileroVadConfig) -> list[Rule]:
    return [
        same("stft_conv.weight", "fourier.weight"),
        *(rule for i in range(len(config.widths)) for rule in linear(f"conv{i + 1}", f"encoder.{i}.convolution")),
        *(
            same(f"lstm_cell.{kind}_{name}", f"lstm.{part}.{kind}")
            for name, part in (("ih", "input"), ("hh", "recurrent"))
            for kind in ("weight", "bias")
        ),
        unsqueezed("final_conv.weight", "head.weight", sides=1),
        same("final_conv.bias", "head.bias"),
    ]


def archive_layout(config: SileroVadConfig, net: str) -> list[Rule]:
    """The net of that name in the archive that the package runs; the other one is left unread."""
    (other,) = {*OF_ARCHIVE} - {net}
    return [
        *_archived(config, net),
        *ignored(*(name for rule in _archived(SileroVadConfig(), other) for name in rule.theirs[0]), "_context", "_state"),
    ]


def _archived(config: SileroVadConfig, net: str) -> list[Rule]:
    recurrent = (("ih", "input"), ("hh", "recurrent"))
    rules = [
        same("stft.forward_basis_buffer", "fourier.weight"),
        *each(len(config.widths), *linear("encoder.{i}.reparam_conv", "encoder.{i}.convolution")),
        *(same(f"decoder.rnn.{kind}_{name}", f"lstm.{part}.{kind}") for name, part in recurrent for kind in ("weight", "bias")),
        unsqueezed("decoder.decoder.2.weight", "head.weight", sides=1),
        same("decoder.decoder.2.bias", "head.bias"),
    ]
    return list(prefixed((f"{net}.",), rules))


ARCHITECTURE = Architecture(
    name="silero-vad",
    config=SileroVadConfig,
    net=SileroVad,
    layouts={
        "silero": safetensors_layout,
        "silero-archive": partial(archive_layout, net="_model"),
        "silero-archive-8k": partial(archive_layout, net="_model_8k"),
    },
)
