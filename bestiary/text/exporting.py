"""Nets of text as graphs: what goes in and comes out, and how a program of one's own uses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from bestiary.core.appending import Appending
from bestiary.core.context import Dense, Memory, look
from bestiary.core.export.example import filled
from bestiary.core.export.graph import Axes, Bundle, Graph, Sizes
from bestiary.core.runtime import evaluated
from bestiary.core.task import Task
from bestiary.errors import InputError
from bestiary.text import examples

ROWS = ("batch", "length")
POOLINGS: Mapping[str, Callable[[Dense, Tensor], Tensor]] = {"mean": Dense.mean, "cls": Dense.first}


class Answering(nn.Module):
    """Token ids (batch, length), their mask, and for some nets their segments → what the head makes of them."""

    def __init__(self, task: Any):
        super().__init__()
        self.net = evaluated(task.net)

    def forward(self, tokens: Tensor, mask: Tensor, *segments: Tensor) -> tuple[Tensor, ...]:
        return (self.net(tokens, mask, None, *segments),)


class Embedding(Answering):
    """Token ids and their mask → vectors (batch, width), pooled and scaled as the card says, of hidden states."""

    def __init__(self, task: Any):
        super().__init__(task)
        self.pooling = POOLINGS[task.card.preprocess["pooling"]]
        self.finish = task.finish

    def forward(self, tokens: Tensor, mask: Tensor, *segments: Tensor) -> tuple[Tensor, ...]:
        context: Any = look(mask, tokens, causal=False)
        hidden_states = self.net(tokens, context)
        return self.finish(self.pooling(context, hidden_states)), hidden_states


class Kind(NamedTuple):
    """What a task on an encoder asks of its graph."""

    net: Callable[[Any], nn.Module]
    outputs: Callable[[Any], Mapping[str, Axes]]  # of the net's config
    example: str
    segments: bool = True  # whether sentences are told apart


def _of_classes(config: Any) -> Mapping[str, Axes]:
    return {"logits": ("batch", config.num_classes)}


KINDS = {
    "fill-mask": Kind(Answering, lambda config: {"logits": (*ROWS, config.vocabulary)}, examples.MASKS, segments=False),
    "question-answering": Kind(Answering, lambda config: {"logits": (*ROWS, 2)}, examples.ANSWERS),
    "text-classification": Kind(Answering, _of_classes, examples.CLASSES),
    "text-embedding": Kind(
        Embedding,
        lambda config: {"vectors": ("batch", config.width), "hidden_states": (*ROWS, config.width)},
        examples.VECTORS,
        segments=False,
    ),
    "token-classification": Kind(Answering, lambda config: {"logits": (*ROWS, config.num_classes)}, examples.TAGS),
}


def encoder_bundle(task: Task, preprocessing: bool) -> Bundle:
    """The graph of a net that reads texts as a whole, in batches of any size and length."""
    _check(preprocessing)
    kind, config = KINDS[task.card.task], cast(Any, task.net.config)
    names = ["tokens", "mask", *(["segments"] if kind.segments and getattr(config, "segments", 0) > 1 else [])]

    def inputs_of(sizes: Sizes) -> list[Tensor]:
        tokens, mask = _texts(sizes, config.vocabulary, task.device)
        return [tokens, mask, tokens % 2][: len(names)]

    graph = Graph(
        name="model",
        net=kind.net(task),
        inputs=dict.fromkeys(names, ROWS),
        outputs=kind.outputs(config),
        ranges={"batch": (1, None), "length": (1, config.positions)},
        inputs_of=inputs_of,
        sizes=[{"batch": batch, "length": min(length, config.positions)} for batch, length in ((2, 8), (1, 5), (3, 21))],
    )
    preprocess = task.card.preprocess
    places = {"limit": preprocess["max_length"], "mask": preprocess.get("mask"), "segments": ""}
    if "segments" in names:
        places["segments"] = ",\n    segments=np.array([text.type_ids for text in texts])"
    return Bundle([graph], filled(kind.example, **places))


class Decoding(nn.Module):
    """New tokens and the past → logits of what follows each, and the past of the next call; see `Appending`."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net: Any = evaluated(net)

    def forward(self, tokens: Tensor, mask: Tensor, past_mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        context = Appending(mask, past_mask, past)
        logits = self.net.head(self.net.hidden_states(tokens, context))
        return logits, context.present_mask, *context.present


def decoder_bundle(task: Task, preprocessing: bool) -> Bundle:
    """The graph of a step of a net that generates: any number of tokens after a past of any length, 0 at first."""
    _check(preprocessing)
    config: Any = task.net.config
    heads = getattr(config, "key_value_heads", config.heads)
    width = getattr(config, "head_width", config.width // config.heads)
    kept = [f"{layer}.{part}" for layer in range(config.layers) for part in ("key", "value")]

    net = Decoding(task.net)

    def inputs_of(sizes: Sizes) -> list[Tensor]:
        before, _ = _texts({**sizes, "length": sizes["past"]}, config.vocabulary, task.device)
        rows = torch.arange(len(before), device=task.device)[:, None]
        seen = torch.arange(before.shape[1], device=task.device) >= rows  # padded in front, as prompts often are
        nothing = [torch.zeros(len(before), heads, 0, width, device=task.device)] * len(kept)
        with torch.no_grad():
            _, past_mask, *past = net(before, seen, seen[:, :0], *nothing)
        return [*_texts(sizes, config.vocabulary, task.device), past_mask, *past]

    half = config.positions // 2
    graph = Graph(
        name="model",
        net=net,
        inputs={"tokens": ROWS, "mask": ROWS, "past_mask": ("batch", "past")}
        | {f"past.{name}": ("batch", heads, "past", width) for name in kept},
        outputs={"logits": (*ROWS, config.vocabulary), "present_mask": ("batch", "past + length")}
        | {f"present.{name}": ("batch", heads, "past + length", width) for name in kept},
        ranges={"batch": (1, None), "length": (1, config.positions), "past": (0, config.positions)},
        inputs_of=inputs_of,
        sizes=[
            {"batch": batch, "length": min(length, half), "past": min(past, half)}
            for batch, length, past in ((2, 5, 4), (1, 9, 0), (3, 1, 13))
        ],
    )
    return Bundle([graph], examples.CONTINUATION)


class Reading(nn.Module):
    """The encoder of a net that has two halves: token ids and their mask → hidden states."""

    def __init__(self, net: Any):
        super().__init__()
        self.net = net

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        return (self.net.encode(tokens, mask),)


class Writing(nn.Module):
    """The decoder: token ids of the answer so far, hidden states and their mask → logits of what follows each."""

    def __init__(self, net: Any):
        super().__init__()
        self.decoder = net.decoder

    def forward(self, tokens: Tensor, hidden_states: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        return (self.decoder(tokens, look(None, tokens, causal=True, memory=Memory(hidden_states, mask))),)


def translator_bundle(task: Task, preprocessing: bool) -> Bundle:
    """Two graphs, one for each half of the net."""
    _check(preprocessing)
    net, config = evaluated(task.net), cast(Any, task.net.config)

    def read(sizes: Sizes) -> list[Tensor]:
        return list(_texts(sizes, config.vocabulary, task.device))

    def written(sizes: Sizes) -> list[Tensor]:
        tokens, mask = read(sizes)
        with torch.no_grad():
            (hidden_states,) = Reading(net)(tokens, mask)
        answer, _ = _texts({**sizes, "length": sizes["answer"]}, config.vocabulary, task.device)
        return [answer, hidden_states, mask]

    encoder = Graph(
        name="encoder",
        net=Reading(net),
        inputs={"tokens": ROWS, "mask": ROWS},
        outputs={"hidden_states": (*ROWS, config.width)},
        ranges={"batch": (1, None), "length": (1, None)},
        inputs_of=read,
        sizes=[{"batch": 2, "length": 8}, {"batch": 1, "length": 5}, {"batch": 3, "length": 21}],
    )
    decoder = Graph(
        name="decoder",
        net=Writing(net),
        inputs={"decoder_tokens": ("batch", "answer"), "hidden_states": (*ROWS, config.width), "mask": ROWS},
        outputs={"logits": ("batch", "answer", config.vocabulary)},
        ranges={**encoder.ranges, "answer": (1, None)},
        inputs_of=written,
        sizes=[
            {"batch": batch, "length": length, "answer": answer} for batch, length, answer in ((2, 8, 5), (1, 5, 1), (3, 6, 17))
        ],
    )
    remarks = ["The decoder keeps nothing between calls: it reads the whole of the answer so far each time."]
    return Bundle([encoder, decoder], examples.TRANSLATION, remarks)


def _check(preprocessing: bool) -> None:
    if preprocessing:
        raise InputError("there is no preprocessing in a graph of texts\nleave it out; tokenizer.json lies beside the graph")


def _texts(sizes: Sizes, vocabulary: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens and mask (batch, length), each text one token shorter than that before it, as far as that goes."""
    shape = sizes["batch"], sizes["length"]
    tokens = torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(0))
    lengths = (shape[1] - torch.arange(shape[0])).clamp(min=1)
    return tokens.to(device), (torch.arange(shape[1]) < lengths[:, None]).to(device)
