"""Architectures that are not in the zoo, computed by transformers behind our task objects."""

import copy
import json
import pickle
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import bestiary
from bestiary.core.packing import pack, padded

TEXTS = ["a cat", "the cat sat on the mat and then it went away", "dogs", "two big dogs sat in our old red house"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(" ".join(TEXTS).split())]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": len(WORDS)}
POSITIONS = {"max_position_embeddings": 64}


def tokenizer(special=True):
    rules = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    rules.add_special_tokens(["[MASK]"])
    rules.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        rules.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return rules


def published(model, folder, special=True, **options):
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder, **options)
    tokenizer(special).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 60, "mask_token": "[MASK]"}))
    return model.eval()


def electra():
    return transformers.ElectraModel(transformers.ElectraConfig(embedding_size=16, intermediate_size=64, **SIZES, **POSITIONS))


def albert():
    return transformers.AlbertModel(transformers.AlbertConfig(embedding_size=16, intermediate_size=64, **SIZES, **POSITIONS))


def mpnet():
    return transformers.MPNetForMaskedLM(transformers.MPNetConfig(intermediate_size=64, **SIZES, **POSITIONS)).mpnet


def opt():
    sizes = {**SIZES, "ffn_dim": 64, "word_embed_proj_dim": 32, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    return transformers.OPTForCausalLM(transformers.OPTConfig(**sizes, **POSITIONS))


def neox():
    sizes = {**SIZES, "intermediate_size": 64, "bos_token_id": 2, "eos_token_id": 3}
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**sizes, **POSITIONS))


def bloom():
    return transformers.BloomForCausalLM(transformers.BloomConfig(eos_token_id=3, **SIZES))


def headed(head, **options):
    config = transformers.ElectraConfig(embedding_size=16, intermediate_size=64, **SIZES, **POSITIONS, **options)
    return getattr(transformers, f"ElectraFor{head}")(config)


def ids(text, special=True):
    return torch.tensor([tokenizer(special).encode(text).ids])


@pytest.mark.parametrize("make", [electra, albert, mpnet])
def test_an_encoder_gives_the_vectors_of_transformers(make, tmp_path):
    reference = published(make(), tmp_path / "theirs")
    embed = bestiary.load(tmp_path / "theirs", bridge=True)
    assert embed.card.checked == "bridged" and embed.card.task == "text-embedding"
    with torch.inference_mode():
        wanted = [reference(ids(text)).last_hidden_state[0].mean(0) for text in TEXTS]
    wanted = torch.nn.functional.normalize(torch.stack(wanted))
    assert (embed(TEXTS) - wanted).abs().max() < 1e-5
    assert torch.allclose(embed(TEXTS[0]), wanted[0], atol=1e-5)


def test_a_classifier_scores_texts_and_pairs_as_transformers_does(tmp_path):
    reference = published(headed("SequenceClassification", id2label={0: "calm", 1: "loud", 2: "odd"}), tmp_path / "theirs")
    classify = bestiary.load(tmp_path / "theirs", bridge=True)
    both = torch.tensor([tokenizer().encode("a cat", "two big dogs").ids])
    kinds = torch.tensor([tokenizer().encode("a cat", "two big dogs").type_ids])
    assert kinds.sum() > 0
    with torch.inference_mode():
        wanted = [reference(ids(text)).logits[0].softmax(-1) for text in TEXTS]
        wanted.append(reference(both, token_type_ids=kinds).logits[0].softmax(-1))
    for found, scores in zip(classify([*TEXTS, ("a cat", "two big dogs")]), wanted, strict=True):
        named = {label.name: label.score for label in found}
        assert [named[name] for name in ("calm", "loud", "odd")] == pytest.approx(scores.tolist(), abs=1e-5)


def test_gaps_are_filled_as_transformers_does(tmp_path):
    reference = published(headed("MaskedLM"), tmp_path / "theirs")
    fill = bestiary.load(tmp_path / "theirs", bridge=True)
    text = "the cat [MASK] on the mat"
    with torch.inference_mode():
        wanted = reference(ids(text)).logits[0, 3].softmax(-1)
    found = fill([text, "a [MASK]"], top=3)[0]
    assert [candidate.score for candidate in found] == pytest.approx(wanted.topk(3).values.tolist(), abs=1e-5)


@pytest.mark.parametrize("head", ["TokenClassification", "QuestionAnswering"])
def test_rows_of_logits_are_those_of_transformers(head, tmp_path):
    reference = published(headed(head), tmp_path / "theirs")
    net = bestiary.load(tmp_path / "theirs", bridge=True).net
    packed = pack([[5, 6, 7], [8]], torch.device("cpu"))
    with torch.inference_mode():
        outputs = [reference(torch.tensor([row])) for row in ([5, 6, 7], [8])]
        wanted = [getattr(output, "logits", None) for output in outputs]
        if head == "QuestionAnswering":
            wanted = [torch.stack([output.start_logits, output.end_logits], -1) for output in outputs]
        assert torch.allclose(net(packed.tokens, packed.mask), torch.cat([rows[0] for rows in wanted]), atol=1e-5)


def continued(reference, text, count):
    """Greedily, all at once for each token, and never with the end."""
    tokens = ids(text, special=False)
    with torch.inference_mode():
        for _ in range(count):
            logits = reference(tokens, use_cache=False).logits[:, -1]
            logits[:, 3] = -1e9
            tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], 1)
    return tokenizer(False).decode(tokens[0, -count:].tolist())


@pytest.mark.parametrize("make", [opt, neox, bloom])
def test_a_decoder_continues_as_transformers_does(make, tmp_path):
    reference = published(make(), tmp_path / "theirs", special=False)
    model = bestiary.load(tmp_path / "theirs", bridge=True)
    options = {"max_new_tokens": 12, "logit_bias": {3: -1e9}}
    wanted = [continued(reference, text, 12) for text in TEXTS]
    assert [text.strip() for text in model.generate(TEXTS, **options)] == wanted
    assert model.generate(TEXTS[1], **options).strip() == wanted[1]
    assert "".join(model.stream(TEXTS[1], **options)).strip() == wanted[1]


def test_a_decoder_reads_no_token_twice(tmp_path, monkeypatch):
    published(opt(), tmp_path / "theirs", special=False)
    model = bestiary.load(tmp_path / "theirs", bridge=True)
    read = []
    forward = model.net.model.forward
    monkeypatch.setattr(model.net.model, "forward", lambda **inputs: read.append(inputs["input_ids"].shape) or forward(**inputs))
    model.generate(TEXTS[:2], max_new_tokens=5, logit_bias={3: -1e9})
    assert read[:2] == [(1, 2), (1, 11)] and set(read[2:]) == {(1, 1)} and len(read) == 10


def test_a_padded_batch_and_packed_rows_give_the_same(tmp_path):
    published(opt(), tmp_path / "theirs", special=False)
    net = bestiary.load(tmp_path / "theirs", bridge=True).net
    packed = pack([[5, 6, 7], [8]], torch.device("cpu"))
    tokens, mask = padded(packed.tokens, packed.mask)
    with torch.inference_mode():
        logits = net(tokens, mask)
        assert torch.equal(net(packed.tokens, packed.mask), logits[mask])
        assert torch.allclose(net(tokens[1:, :1])[0], logits[1, :1], atol=1e-5)


def test_shards_are_read(tmp_path):
    reference = published(electra(), tmp_path / "theirs", max_shard_size="20KB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").exists()
    embed = bestiary.load(tmp_path / "theirs", bridge=True)
    with torch.inference_mode():
        wanted = reference(ids("a cat")).last_hidden_state[0].mean(0)
    assert torch.allclose(embed("a cat"), wanted / wanted.norm(), atol=1e-5)


def test_what_is_saved_and_exported_is_loaded_again(tmp_path):
    published(electra(), tmp_path / "theirs")
    (tmp_path / "theirs" / "modules.json").write_text(json.dumps([{"type": "x.Transformer"}, {"type": "x.Pooling"}]))
    (tmp_path / "theirs" / "1_Pooling").mkdir()
    (tmp_path / "theirs" / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    embed = bestiary.load(tmp_path / "theirs", bridge=True)
    embed.save(tmp_path / "saved")
    embed.export(tmp_path / "exported", layout="transformers")
    for name in ("saved", "exported"):
        again = bestiary.load(tmp_path / name, bridge=True)
        assert again.card.preprocess == embed.card.preprocess and again.card.preprocess["pooling"] == "cls"
        assert torch.equal(again(TEXTS), embed(TEXTS))
    with pytest.raises(bestiary.LayoutError, match="cannot be exported to 'timm'"):
        embed.export(tmp_path / "timm", layout="timm")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda task: pickle.loads(pickle.dumps(task))], ids=["deepcopy", "pickle"])
def test_a_bridged_task_can_be_copied(copied, tmp_path):
    published(opt(), tmp_path / "theirs", special=False)
    model = bestiary.load(tmp_path / "theirs", bridge=True)
    assert copied(model).generate("a cat", max_new_tokens=5) == model.generate("a cat", max_new_tokens=5)


def test_what_is_in_the_zoo_does_not_go_over_the_bridge(tmp_path):
    bestiary.load("minilm-l6-v2").export(tmp_path / "ours", layout="transformers")
    assert bestiary.load(tmp_path / "ours", bridge=True).card.checked == "parity"


def test_a_bridged_card_asks_for_the_bridge(tmp_path, monkeypatch):
    published(electra(), tmp_path / "theirs")
    embed = bestiary.load(tmp_path / "theirs", bridge=True)
    (tmp_path / "theirs" / "theirs.md").write_text(embed.card.to_markdown())
    monkeypatch.setenv("BESTIARY_CARDS", str(tmp_path / "theirs"))
    with pytest.raises(bestiary.InputError, match="bridge=True"):
        bestiary.load("theirs")
    assert bestiary.card("theirs").checked == "bridged"
    assert torch.equal(bestiary.load("theirs", bridge=True)("a cat"), embed("a cat"))


def test_without_the_bridge_the_error_names_it(tmp_path):
    published(electra(), tmp_path / "theirs")
    with pytest.raises(bestiary.LayoutError, match=r"electra, which is not in the zoo\n.*\nbridge=True") as error:
        bestiary.load(tmp_path / "theirs")
    assert len(str(error.value).splitlines()) == 3


MARK = "import pathlib; pathlib.Path({!r}).touch()\nclass Config: ...\nclass Model: ...\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "evil", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}, "evil wants to run code"),
        ({"model_type": "unheard"}, "unheard is not in the zoo\nnor does transformers .* know it"),
        ({"model_type": None}, "None is not in the zoo"),
        ({"model_type": "detr"}, "detr is not a text model"),
        ({"model_type": "bart"}, "bart has an encoder and a decoder"),
        ({"architectures": ["ElectraForMultipleChoice"]}, "ElectraForMultipleChoice is none of the models"),
        ({"architectures": "x"}, "is none of the models"),
        ({"architectures": 3}, "the bridge cannot read the config"),
        ({"quantization_config": {"quant_method": "gptq"}}, "has quantization_config"),
        ({"attn_implementation": "kernels-community/flash-attn"}, "has attn_implementation"),
        ({"hidden_size": "large"}, "cannot"),
        ({"num_hidden_layers": 3}, r"lacks encoder\.layer\.2"),
        ({"vocab_size": 99}, "lacks embeddings.word_embeddings.weight|cannot load"),
    ],
)
def test_what_the_bridge_cannot_carry_is_refused(changes, message, tmp_path):
    published(electra(), tmp_path / "theirs")
    config = tmp_path / "theirs" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    (tmp_path / "theirs" / "code.py").write_text(MARK.format(str(tmp_path / "ran")))
    with pytest.raises(bestiary.LayoutError, match=message) as error:
        bestiary.load(tmp_path / "theirs", bridge=True)
    assert len(str(error.value).splitlines()) <= 3
    assert not (tmp_path / "ran").exists()


def test_code_beside_a_known_architecture_is_not_run(tmp_path):
    published(electra(), tmp_path / "theirs")
    config = tmp_path / "theirs" / "config.json"
    own = {"auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    config.write_text(json.dumps(json.loads(config.read_text()) | own))
    (tmp_path / "theirs" / "code.py").write_text(MARK.format(str(tmp_path / "ran")))
    assert bestiary.load(tmp_path / "theirs", bridge=True)("a cat").shape == (32,)
    assert not (tmp_path / "ran").exists()


def test_pickles_do_not_go_over_the_bridge(tmp_path):
    model = published(electra(), tmp_path / "theirs")
    (tmp_path / "theirs" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "theirs" / "pytorch_model.bin")
    with pytest.raises(bestiary.LayoutError, match=r"has no model\.safetensors and no model\.safetensors\.index\.json\n"):
        bestiary.load(tmp_path / "theirs", bridge=True)


def test_transformers_sees_the_verified_files_alone(tmp_path, monkeypatch):
    published(electra(), tmp_path / "theirs")
    (tmp_path / "theirs" / "adapter_config.json").write_text("{}")
    seen = []
    read = transformers.AutoModel.from_pretrained

    def look(folder, **options):
        seen.extend(path.name for path in Path(folder).iterdir())
        return read(folder, **options)

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", look)
    bestiary.load(tmp_path / "theirs", bridge=True)
    assert sorted(seen) == ["config.json", "model.safetensors"]
