"""smollm2-135m-instruct against transformers and llama.cpp: the same weights, prompts, number of tokens; the likeliest each."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import bestiary
from bestiary.scripts.benchmark import Bench, Row, limit
from bestiary.scripts.cases.embed import sample_texts
from bestiary.scripts.cases.processes import output
from bestiary.text.tasks.generation import LanguageModel

MODEL = "smollm2-135m-instruct"
PROMPT = "Gravity is the force that"
TOKENS = 96
BATCH_TOKENS = 48

OURS = f"import bestiary; next(bestiary.load('{MODEL}', device='cpu').stream('{PROMPT}'))"
PEER = f"""
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, name = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name)
model.generate(**tokenizer("{PROMPT}", return_tensors="pt"), max_new_tokens=1, do_sample=False)
"""


def load(precision: str) -> LanguageModel:
    """The model on the CPU."""
    model = bestiary.load(MODEL, device="cpu", precision=precision)
    assert isinstance(model, LanguageModel)
    return model


def generate_fp32(bench: Bench) -> Iterator[Row]:
    """One prompt at fp32, against transformers."""
    model, peer = load("fp32"), transformers_model()
    tokens = torch.tensor([model.rules.encode(PROMPT).ids])
    times = bench.alternate(lambda: ours(model), lambda: theirs(peer, tokens, TOKENS))
    yield times.speed(f"{TOKENS} tokens after one prompt, fp32", "transformers", at_least=2)
    written = [token.id for token in ours(model, details=True).tokens]
    expected = theirs(peer, tokens, TOKENS)[0, tokens.shape[1] :].tolist()
    different = sum(a != b for a, b in zip(written, expected, strict=True))
    yield limit("tokens that differ from those of transformers", different, unit="", at_most=0)


def generate_batch(bench: Bench) -> Iterator[Row]:
    """Sixteen prompts of different length at fp32, against the padded batch of transformers."""
    model, peer = load("fp32"), transformers_model()
    prompts = sample_texts(16)
    encoded = [model.rules.encode(prompt).ids for prompt in prompts]
    longest = max(map(len, encoded))
    tokens = torch.tensor([[0] * (longest - len(ids)) + ids for ids in encoded])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in encoded])
    times = bench.alternate(
        lambda: model.generate(prompts, max_new_tokens=BATCH_TOKENS, min_new_tokens=BATCH_TOKENS),
        lambda: theirs(peer, tokens, BATCH_TOKENS, attention_mask=mask),
    )
    yield times.speed(f"{BATCH_TOKENS} tokens after each of 16 prompts, fp32", "transformers", at_least=2)


def generate_16bit(bench: Bench) -> Iterator[Row]:
    """One prompt with weights of 16 bits, against llama.cpp."""
    yield from _beside_llama_cpp(bench, "fp16", "F16")


def generate_int8(bench: Bench) -> Iterator[Row]:
    """One prompt with weights of 8 bits, against llama.cpp."""
    yield from _beside_llama_cpp(bench, "int8", "Q8_0")


def generate_start(bench: Bench) -> Iterator[Row]:
    """A new process to its first token, the files lying ready, against transformers with the GGUF."""
    source = gguf_of(load("fp32"))
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / "model.gguf"
        named.symlink_to(source)
        times = bench.alternate(
            lambda: output([sys.executable, "-c", OURS]),
            lambda: output([sys.executable, "-c", PEER, folder, named.name]),
        )
    yield times.share("a new process to its first token", "transformers", at_most=0.35)


def ours(model: LanguageModel, **options: Any) -> Any:
    """Our continuation of the prompt, of exactly TOKENS tokens."""
    return model.generate(PROMPT, max_new_tokens=TOKENS, min_new_tokens=TOKENS, **options)


def theirs(peer: Any, tokens: torch.Tensor, count: int, **options: Any) -> torch.Tensor:
    """Prompts and the continuations of transformers."""
    mask = options.pop("attention_mask", torch.ones_like(tokens))
    with torch.inference_mode():
        written: torch.Tensor = peer.generate(
            tokens, attention_mask=mask, max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0
        )
    return written


def transformers_model() -> Any:
    """The peer, with our weights."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        load("fp32").export(Path(folder) / "model", layout="transformers")
        return AutoModelForCausalLM.from_pretrained(Path(folder) / "model").eval()


def _beside_llama_cpp(bench: Bench, precision: str, kind: str) -> Iterator[Row]:
    from llama_cpp import Llama

    model = load(precision)
    with tempfile.TemporaryDirectory() as folder:
        requantised = Path(folder) / f"{kind}.gguf"
        requantise(gguf_of(model), requantised, kind)
        peer = Llama(str(requantised), n_ctx=512, n_threads=torch.get_num_threads(), verbose=False)
    times = bench.alternate(lambda: ours(model), _continue(peer))
    yield times.speed(f"{TOKENS} tokens after one prompt, {precision}", f"llama.cpp, {kind}", at_least=1)


def _continue(peer: Any) -> Callable[[], object]:
    tokens = peer.tokenize(PROMPT.encode(), add_bos=False)

    def run() -> None:
        peer.reset()
        for number, _ in enumerate(peer.generate(tokens, temp=0.0, top_k=1), start=1):
            if number == TOKENS:
                return

    return run


def gguf_of(model: LanguageModel) -> Path:
    """The file that the model came as."""
    return model.provenance[model.card.file("weights").name].path


def requantise(source: Path, target: Path, kind: str) -> None:
    """The same model as a GGUF of another kind; the norms stay in fp32."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, quants

    reader, quantised = GGUFReader(source), GGMLQuantizationType[kind]
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            inner = field.types[1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], inner)
    writer.add_file_type(LlamaFileType[f"MOSTLY_{kind}"])
    for tensor in reader.tensors:
        values = quants.dequantize(tensor.data, tensor.tensor_type).astype("float32")
        if values.ndim == 1:
            writer.add_tensor(tensor.name, values)
        else:
            writer.add_tensor(tensor.name, quants.quantize(values, quantised), raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
