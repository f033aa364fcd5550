"""Small language models with random weights, as saved folders."""

import hashlib
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from bestiary.core import weights
from bestiary.text.llama import ARCHITECTURE

TEXTS = [
    "Gravity is a force between masses.",
    "The cat sleeps.\nUser: why?\n",
    "Жираф ест листья 🦒🦒 und Äpfel",
    "yes no maybe " * 9,
]
TEMPLATE = """{%- for message in messages %}{{ '<start>' + message['role'] + '\n' + message['content'] + '<end>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<start>assistant\n' }}{% endif %}"""
CARD = """---
license: apache-2.0
bestiary:
  name: {name}
  task: text-generation
  architecture: llama
  config: {config}
  layout: native
  files: {{{files}}}
  sources:
    - path: .
  preprocess: {{context: {context}, end_tokens: [{end}]}}
  checked: parity
---
"""


def byte_tokenizer(texts=TEXTS, size=330):
    """Byte-level BPE, so that characters may break in two; `<end>` and `<start>` are special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<end>", "<start>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write_model(folder: Path, *, seed=0, context=96, template=TEMPLATE, tokenizer=None, **changes) -> Path:
    """A folder that `bestiary.load` takes."""
    folder.mkdir(parents=True)
    tokenizer = tokenizer or byte_tokenizer()
    fields = dict(layers=2, width=32, heads=4, key_value_heads=2, head_width=8, hidden=64,
                  vocabulary=tokenizer.get_vocab_size(), positions=context, theta=10000.0, eps=1e-5) | changes  # fmt: skip
    torch.manual_seed(seed)
    net = ARCHITECTURE.net(ARCHITECTURE.configure(fields))
    for parameter in net.parameters():
        parameter.data.normal_(std=0.4) if parameter.dim() > 1 else parameter.data.uniform_(0.5, 1.5)
    weights.save(net, folder / "model.safetensors", ARCHITECTURE.rules("native", net.config, list(net.state_dict())))
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = {"model.safetensors": "weights", "tokenizer.json": "tokenizer"}
    if template:
        (folder / "chat_template.jinja").write_text(template)
        roles["chat_template.jinja"] = "chat_template"
    files = ", ".join(f"{name}: {{{described(folder / name)}, role: {role}}}" for name, role in roles.items())
    values = "{" + ", ".join(f"{name}: {value}" for name, value in fields.items()) + "}"
    card = CARD.format(name=folder.name, config=values, files=files, context=context, end=tokenizer.token_to_id("<end>"))
    (folder / "README.md").write_text(card)
    return folder


def described(path: Path) -> str:
    content = path.read_bytes()
    return f"size: {len(content)}, sha256: {hashlib.sha256(content).hexdigest()}"
