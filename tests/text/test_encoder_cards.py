"""The cards of encoders say what the publishers' own files say."""

import json

import pytest

import bestiary
from bestiary.table import find_architecture, find_task

# The config.json of each, without what is about training and versions alone.
BERT = {
    "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
    "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
    "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0, "type_vocab_size": 2,
}  # fmt: skip
ROBERTA = BERT | {
    "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-05, "max_position_embeddings": 514, "pad_token_id": 1,
    "type_vocab_size": 1,
}  # fmt: skip
DISTILBERT = {
    "activation": "gelu", "attention_dropout": 0.1, "dim": 768, "dropout": 0.1, "hidden_dim": 3072, "initializer_range": 0.02,
    "max_position_embeddings": 512, "model_type": "distilbert", "n_heads": 12, "n_layers": 6, "pad_token_id": 0,
    "qa_dropout": 0.1, "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": False, "tie_weights_": True, "vocab_size": 30522,
}  # fmt: skip
SMALL = BERT | {
    "architectures": ["BertModel"], "classifier_dropout": None, "hidden_size": 384, "intermediate_size": 1536,
    "position_embedding_type": "absolute", "torch_dtype": "float32", "use_cache": True, "vocab_size": 30522,
}  # fmt: skip
SENTIMENT = ("NEGATIVE", "POSITIVE")
NAMES = ("O", "B-MISC", "I-MISC", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")


def labelled(names):
    return {
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }


CONFIGS = {
    "bert-base-uncased": BERT | {
        "architectures": ["BertForMaskedLM"], "gradient_checkpointing": False, "position_embedding_type": "absolute",
        "transformers_version": "4.6.0.dev0", "use_cache": True, "vocab_size": 30522,
    },
    "roberta-base": ROBERTA | {"architectures": ["RobertaForMaskedLM"], "model_type": "roberta", "vocab_size": 50265},
    "xlm-roberta-base": ROBERTA | {
        "architectures": ["XLMRobertaForMaskedLM"], "model_type": "xlm-roberta", "output_past": True,
        "position_embedding_type": "absolute", "transformers_version": "4.17.0.dev0", "use_cache": True, "vocab_size": 250002,
    },
    "distilbert-base-uncased": DISTILBERT | {
        "architectures": ["DistilBertForMaskedLM"], "transformers_version": "4.10.0.dev0",
    },
    "distilbert-sst-2": DISTILBERT | labelled(SENTIMENT) | {
        "architectures": ["DistilBertForSequenceClassification"], "finetuning_task": "sst-2", "output_past": True,
    },
    "bert-base-ner": BERT | labelled(NAMES) | {
        "_num_labels": 9, "architectures": ["BertForTokenClassification"], "max_length": 512, "output_past": True,
        "vocab_size": 28996,
    },
    "modernbert-base": {
        "architectures": ["ModernBertForMaskedLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 50281,
        "classifier_activation": "gelu", "classifier_bias": False, "classifier_dropout": 0.0, "classifier_pooling": "mean",
        "cls_token_id": 50281, "decoder_bias": True, "deterministic_flash_attn": False, "embedding_dropout": 0.0,
        "eos_token_id": 50282, "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "gradient_checkpointing": False,
        "hidden_activation": "gelu", "hidden_size": 768, "initializer_cutoff_factor": 2.0, "initializer_range": 0.02,
        "intermediate_size": 1152, "layer_norm_eps": 1e-05, "local_attention": 128, "local_rope_theta": 10000.0,
        "max_position_embeddings": 8192, "mlp_bias": False, "mlp_dropout": 0.0, "model_type": "modernbert", "norm_bias": False,
        "norm_eps": 1e-05, "num_attention_heads": 12, "num_hidden_layers": 22, "pad_token_id": 50283,
        "position_embedding_type": "absolute", "sep_token_id": 50282, "tie_word_embeddings": True, "torch_dtype": "float32",
        "transformers_version": "4.47.0.dev0", "vocab_size": 50368,
    },
    "bge-small-en-v1.5": SMALL | {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "transformers_version": "4.30.0"},
    "e5-small-v2": SMALL | {"transformers_version": "4.29.0.dev0"},
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_the_config_is_that_of_the_published_file(name):
    card = bestiary.card(name)
    architecture = find_architecture(card.architecture)
    config_map = architecture.configs[card.layout]
    assert config_map.recognises(CONFIGS[name])
    assert architecture.configure(card.config) == architecture.configure(config_map.read(CONFIGS[name]))


@pytest.mark.parametrize("name", CONFIGS)
def test_task_and_labels_are_those_of_the_published_file(name, tmp_path):
    """Beside a tokenizer_config.json as transformers writes it."""
    card, config = bestiary.card(name), CONFIGS[name]
    settings = {"model_max_length": 512, "mask_token": {"content": card.preprocess.get("mask", "[MASK]")}}
    settings |= {"model_max_length": 8192} if name == "modernbert-base" else {}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    description = find_architecture(card.architecture).folders[card.layout].read(tmp_path, config)
    assert (description.task, description.labels) == (card.task, card.labels)
    assert find_task(card.task)
    shared = card.preprocess.keys() - {"pooling", "prompts"}  # these two stand in the files of sentence-transformers
    assert {key: description.preprocess[key] for key in shared} == {key: card.preprocess[key] for key in shared}


@pytest.mark.parametrize("name", ["bert-base-uncased", "distilbert-sst-2"])
def test_the_net_of_a_card_is_built(name):
    net = bestiary.build(name, layers=1, head="classes", num_classes=3)
    assert net.head.output.out_features == 3
