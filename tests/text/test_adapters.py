"""Adapters that were trained on transformers' models of text, and adapters of ours as folders."""

import json

import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file, save_file

import bestiary
from bestiary.core.adapt import add_adapter, load_adapter, merge_adapter
from bestiary.errors import InputError, IntegrityError, LayoutError, UnknownModel
from bestiary.loading import load_for
from tests.peft_adapters import close, loaded, published

TINY = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 32,
}  # fmt: skip
MODELS = {
    "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**TINY)),
    "roberta": lambda: transformers.RobertaForMaskedLM(transformers.RobertaConfig(**TINY)),
    "distilbert": lambda: transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(vocab_size=60, dim=32, hidden_dim=48, n_layers=2, n_heads=4, max_position_embeddings=32)
    ),
    "modernbert": lambda: transformers.ModernBertForSequenceClassification(transformers.ModernBertConfig(**TINY, pad_token_id=0)),
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**TINY, num_key_value_heads=2)),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**TINY, num_key_value_heads=2, head_dim=8)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=32)
    ),
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=60, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    ),
}
EVERY_LAYER = {  # of the blocks
    "bert": ["query", "key", "value", "dense"],
    "roberta": ["query", "key", "value", "intermediate.dense", "output.dense"],
    "distilbert": ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"],
    "modernbert": ["Wqkv", "Wo", "Wi"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "qwen3": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "t5": ["q", "k", "v", "o", "wi", "wo"],
}
CLASSIFIERS = {"bert": ["classifier"], "distilbert": ["pre_classifier", "classifier"], "modernbert": ["head", "classifier"]}
TOKENS = torch.arange(3, 21).reshape(2, 9)


def both(name, net, theirs):
    if name == "t5":
        return net(TOKENS, TOKENS[:, :5]), theirs(input_ids=TOKENS, decoder_input_ids=TOKENS[:, :5]).logits
    return net(TOKENS), theirs(input_ids=TOKENS, attention_mask=torch.ones_like(TOKENS)).logits


@pytest.fixture
def llama(tmp_path):
    published(MODELS["llama"](), tmp_path, target_modules=["q_proj", "v_proj"])
    return tmp_path


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("name", MODELS)
def test_published_adapters_compute_what_peft_does(name, dora, tmp_path):
    torch.manual_seed(0)
    theirs = published(
        MODELS[name](), tmp_path, use_dora=dora, target_modules=EVERY_LAYER[name], modules_to_save=CLASSIFIERS.get(name)
    )
    net, layouts = loaded(name, tmp_path)
    plain = net(*both_inputs(name))
    load_adapter(net, tmp_path / "adapter", layouts)
    ours, expected = both(name, net, theirs)
    assert close(ours, expected) and not close(plain, expected)
    names = set(loaded(name, tmp_path)[0].state_dict())
    assert close(both(name, merge_adapter(net), theirs)[0], expected)
    assert set(net.state_dict()) == names


def both_inputs(name):
    return (TOKENS, TOKENS[:, :5]) if name == "t5" else (TOKENS,)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("llama", {"use_rslora": True}),
        ("llama", {"rank_pattern": {"layers.1.self_attn.q_proj": 2}, "alpha_pattern": {"self_attn.v_proj": 1}}),
        ("llama", {"layers_to_transform": [1]}),
        ("llama", {"init_lora_weights": "gaussian", "lora_dropout": 0.1}),
        ("gpt2", {"fan_in_fan_out": True, "alpha_pattern": {"h.0.attn.c_attn": 3}}),
        ("gpt2", {"bias": "all"}),
        ("bert", {"bias": "lora_only"}),
    ],
    ids=str,
)
def test_what_a_config_says_is_computed(name, config, tmp_path):
    targets = {"llama": ["q_proj", "v_proj"], "gpt2": ["c_attn"], "bert": ["query", "value"]}
    theirs = published(MODELS[name](), tmp_path, target_modules=targets[name], **config)
    net, layouts = loaded(name, tmp_path)
    load_adapter(net, tmp_path / "adapter", layouts)
    assert close(*both(name, net, theirs))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "LOHA"),
        ("lora_bias", True),
        ("init_lora_weights", "pissa"),
        ("trainable_token_indices", [3, 4]),
        ("layer_replication", [[0, 2]]),
        ("alora_invocation_tokens", [1]),
        ("key_of_tomorrow", "on"),
        ("r", "many"),
        ("rank_pattern", {"(": 2}),
    ],
)
def test_what_is_not_computed_is_named(llama, key, value):
    path = llama / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    net, layouts = loaded("llama", llama)
    with pytest.raises(LayoutError, match=key) as caught:
        load_adapter(net, llama / "adapter", layouts)
    assert len(str(caught.value).splitlines()) <= 3
    assert not any("lora" in name for name in net.state_dict())


def test_a_pickle_is_refused(llama):
    (llama / "adapter" / "adapter_model.safetensors").rename(llama / "adapter" / "adapter_model.bin")
    net, layouts = loaded("llama", llama)
    with pytest.raises(LayoutError, match="pickle may run any code"):
        load_adapter(net, llama / "adapter", layouts)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda state: {name.replace("layers.0", "layers.7"): tensor for name, tensor in state.items()}, "layers.7"),
        (lambda state: {name: tensor for name, tensor in state.items() if "0.self_attn.q_proj.lora_A" not in name}, "part"),
        (lambda state: {name: tensor[..., :3] for name, tensor in state.items()}, "r: 4"),
        (lambda state: {name: tensor[:, :4].contiguous() for name, tensor in state.items()}, "is it of this model"),
        (lambda state: {**state, "base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(4, 60)}, "lora_embedding_A"),
        (lambda state: {"base_model.model.lm_head.weight": torch.ones(60, 32)}, "no adapter"),
        (lambda state: {**state, "base_model.model.lm_head.weight": torch.ones(61, 32)}, "head.weight"),
    ],
    ids=["another layer", "half", "another rank", "another width", "embedding", "none", "another head"],
)
def test_a_file_that_does_not_fit_is_refused(llama, change, error):
    path = llama / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path)
    net, layouts = loaded("llama", llama)
    with pytest.raises(LayoutError, match=error):
        load_adapter(net, llama / "adapter", layouts)
    assert not any("lora" in name for name in net.state_dict())


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """The folder of an adapter with a head, and what it answers."""
    torch.manual_seed(0)
    classify = load_for("minilm-l6-v2", "text-classification", ["animal", "food"])
    add_adapter(classify.net, 4, targets=("attention", "mlp"), trained=["head"])
    with torch.no_grad():
        for parameter in classify.net.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    folder = tmp_path_factory.mktemp("adapters") / "animals"
    classify.save_adapter(folder)
    return folder, classify(["a cat", "bread"])


def alike(found, expected):
    pairs = [(a, b) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True)]
    return all(a.name == b.name and abs(a.score - b.score) < 1e-5 for a, b in pairs)


def test_the_folder_of_an_adapter_is_small_and_loads_merged(classifier):
    folder, expected = classifier
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3e6
    classify = bestiary.load(folder)
    assert alike(classify(["a cat", "bread"]), expected)
    assert not any("lora" in name for name in classify.net.state_dict())
    assert classify.card.adapter_of.name == "minilm-l6-v2"


def test_a_loaded_adapter_is_saved_as_the_whole_model(classifier, tmp_path):
    folder, expected = classifier
    bestiary.load(folder).save(tmp_path / "whole")
    whole = bestiary.load(tmp_path / "whole")
    assert whole.card.adapter_of is None and alike(whole(["a cat", "bread"]), expected)
    with pytest.raises(InputError, match="was an adapter itself"):
        bestiary.load(folder).save_adapter(tmp_path / "again")


def test_a_task_with_an_adapter_is_saved_merged(classifier, tmp_path):
    folder, expected = classifier
    classify = load_for("minilm-l6-v2", "text-classification", ["animal", "food"]).load_adapter(folder)
    assert alike(classify(["a cat", "bread"]), expected)
    classify.save(tmp_path / "whole")
    assert alike(bestiary.load(tmp_path / "whole")(["a cat", "bread"]), expected)
    assert any("lora" in name for name in classify.net.state_dict())


def test_an_adapter_is_for_the_weights_that_it_was_trained_on(classifier, tmp_path):
    folder, _ = classifier
    card, digest = (folder / "README.md").read_text(), bestiary.card("minilm-l6-v2").file("weights").sha256
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "README.md").write_text(card.replace(digest, digest[::-1]))
    with pytest.raises(IntegrityError, match="trained on other weights of minilm-l6-v2"):
        bestiary.load(tmp_path)
    with pytest.raises(IntegrityError, match="trained on other weights"):
        load_for("minilm-l6-v2", "text-classification", ["animal", "food"]).load_adapter(tmp_path)
    (tmp_path / "README.md").write_text(card.replace("{name: minilm-l6-v2,", "{name: nobody,"))
    with pytest.raises(UnknownModel, match="adapter of nobody"):
        bestiary.load(tmp_path)


def test_a_head_that_the_adapter_lacks_is_missed(tmp_path):
    classify = load_for("minilm-l6-v2", "text-classification", ["animal", "food"])
    add_adapter(classify.net, 4).head.requires_grad_(False)
    classify.save_adapter(tmp_path / "headless")
    with pytest.raises(LayoutError, match=r"lacks head\."):
        bestiary.load(tmp_path / "headless")


def test_an_adapter_is_no_model_to_be_changed(classifier):
    with pytest.raises(InputError, match="is an adapter"):
        bestiary.build(classifier[0], pretrained=True, num_classes=5)


def test_peft_loads_our_folder_onto_our_net(tmp_path):
    task = bestiary.load("minilm-l6-v2")
    add_adapter(task.net, 4, targets=("attention", "mlp"), dora=True)
    with torch.no_grad():
        for parameter in task.net.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.rand_like(parameter) * 0.1)
    task.save_adapter(tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(bestiary.build("minilm-l6-v2", pretrained=True), tmp_path / "adapter").eval()
    assert close(task.net(TOKENS), theirs(TOKENS))


def test_decoding_computes_with_an_adapter(tmp_path):
    model = bestiary.load("smollm2-135m-instruct")
    plain = model.generate("Gravity is", max_new_tokens=8)
    add_adapter(model.net, 4)
    assert model.generate("Gravity is", max_new_tokens=8) == plain
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.net.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn_like(parameter))
    tuned = model.generate("Gravity is", max_new_tokens=8)
    assert tuned != plain
    model.save_adapter(tmp_path / "adapter")
    assert bestiary.load(tmp_path / "adapter").generate("Gravity is", max_new_tokens=8) == tuned
