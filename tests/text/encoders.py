"""What the tests of parity of all encoders share: the reference with the same config, and how the two are compared."""

import json

import torch
import transformers
from safetensors.torch import load_file, save_file

from bestiary.core import weights
from bestiary.core.packing import pack
from bestiary.core.runtime import for_inference

CLASSES = {
    "none": "Model",
    "mask": "ForMaskedLM",
    "classes": "ForSequenceClassification",
    "tokens": "ForTokenClassification",
    "spans": "ForQuestionAnswering",
}
HEADS = tuple(CLASSES)
TINY = {"layers": 4, "width": 32, "heads": 4, "hidden": 48, "vocabulary": 100, "positions": 64}


def configured(architecture, fields, head="none"):
    """Our config with this head, with five classes where it has any."""
    return architecture.configure({**fields, "head": head, "num_classes": 5 if head in ("classes", "tokens") else None})


def reference_class(name, head):
    return getattr(transformers, name + CLASSES[head])


def reference_of(architecture, name, config):
    """The class of transformers for our config; `name` is what those of the architecture begin with."""
    torch.manual_seed(0)
    published = architecture.configs["transformers"].write(config)
    theirs = reference_class(name, config.head)(getattr(transformers, f"{name}Config")(**published)).eval()
    for key, parameter in theirs.named_parameters():  # the default values of norms and biases would hide a mistake
        scales = "norm" in key.lower() and key.endswith("weight")
        parameter.data.normal_(mean=float(scales), std=config.width**-0.5)
    theirs.tie_weights()
    return theirs


def answer(theirs, *inputs, **keywords):
    """What a class of transformers gives, in the form that ours have."""
    output = theirs(*inputs, **keywords)
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    return output.logits if "logits" in output else output.last_hidden_state


def inputs_for(config, padding, length=40):
    length = min(config.positions, length)
    tokens = torch.randint(2, config.vocabulary, (3, length))
    mask = torch.arange(length) < torch.tensor([[length], [length // 2], [length // 6]])
    return tokens.where(mask, padding), mask


def difference(a, b):
    return float((a - b).abs().max() / max(1, float(b.abs().max())))


def check_parity(architecture, name, config, folder, padding=0, length=40):
    """A file that transformers writes gives the same numbers here: padded, packed, and in the form for inference."""
    theirs = reference_of(architecture, name, config)
    theirs.save_pretrained(folder)
    published = json.loads((folder / "config.json").read_text())
    assert architecture.configure(architecture.configs["transformers"].read(published)) == config
    net = weights.load(architecture, config, folder / "model.safetensors", "transformers")
    tokens, mask = inputs_for(config, padding, length)
    packed = pack([row[kept].tolist() for row, kept in zip(tokens, mask, strict=True)], torch.device("cpu"))
    kept = slice(None) if config.head == "classes" else mask
    with torch.no_grad():
        expected = answer(theirs, tokens, attention_mask=mask.long())[kept]
        assert difference(net(tokens, mask)[kept], expected) < 1e-5
        for form in (net, for_inference(net)):
            assert difference(form(packed.tokens, packed.mask, packed.positions), expected) < 1e-5


def check_export(architecture, name, config, folder, padding=0):
    """The class of transformers takes our export, nothing missing and nothing left over, and agrees."""
    torch.manual_seed(0)
    net = architecture.net(config).eval()
    rules = architecture.rules("transformers", config, list(net.state_dict()))
    weights.save(net, folder / "model.safetensors", rules)
    (folder / "config.json").write_text(json.dumps(architecture.configs["transformers"].write(config)))
    no_pooler = {"add_pooling_layer": False} if config.head == "none" and name in ("Bert", "Roberta", "XLMRoberta") else {}
    theirs, report = reference_class(name, config.head).from_pretrained(folder, output_loading_info=True, **no_pooler)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    tokens, mask = inputs_for(config, padding)
    kept = slice(None) if config.head == "classes" else mask
    with torch.no_grad():
        expected = answer(theirs.eval(), tokens, attention_mask=mask.long())[kept]
        assert difference(net(tokens, mask)[kept], expected) < 1e-5


def load_renamed(architecture, config, file, rename, extra, folder):
    """The net from a file whose names were first passed through `rename`, with `extra` tensors in it."""
    state = {rename(name): tensor for name, tensor in load_file(file).items()} | extra
    save_file(state, folder / "renamed.safetensors")
    return weights.load(architecture, config, folder / "renamed.safetensors", "transformers")
