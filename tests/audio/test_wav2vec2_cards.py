"""The cards of nets that hear samples say what the publishers' own files say."""

import json

import pytest
import torch
import torchaudio

import bestiary
from bestiary.audio.listening import Listener
from bestiary.audio.wav2vec2 import LARGE, Wav2Vec2Config
from bestiary.loading import load_for
from bestiary.table import find_architecture, find_task
from tests.audio.spoken import LABELS

# The config.json of each, without what is the default of the library or about versions alone.
SHARED = {
    "activation_dropout": 0.1, "apply_spec_augment": True, "attention_dropout": 0.1, "bos_token_id": 1, "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2], "ctc_loss_reduction": "sum",
    "ctc_zero_infinity": False, "eos_token_id": 2, "feat_extract_activation": "gelu", "feat_proj_dropout": 0.1,
    "final_dropout": 0.1, "gradient_checkpointing": False, "hidden_act": "gelu", "hidden_dropout": 0.1,
    "hidden_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-05, "layerdrop": 0.1,
    "mask_feature_length": 10, "mask_feature_prob": 0.0, "mask_time_length": 10, "mask_time_prob": 0.05,
    "num_conv_pos_embedding_groups": 16, "num_conv_pos_embeddings": 128, "num_feat_extract_layers": 7, "pad_token_id": 0,
    "vocab_size": 32,
}  # fmt: skip
BASE = SHARED | {
    "conv_bias": False, "do_stable_layer_norm": False, "feat_extract_norm": "group", "hidden_size": 768,
    "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12,
}  # fmt: skip
BIG = SHARED | {
    "conv_bias": True, "do_stable_layer_norm": True, "feat_extract_norm": "layer", "hidden_size": 1024,
    "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24, "feat_extract_dropout": 0.0,
}  # fmt: skip
CONTRAST = {
    "codevector_dim": 256, "contrastive_logits_temperature": 0.1, "diversity_loss_weight": 0.1, "feat_quantizer_dropout": 0.0,
    "num_codevector_groups": 2, "num_codevectors_per_group": 320, "num_negatives": 100, "proj_codevector_dim": 256,
}  # fmt: skip
CONFIGS = {
    "wav2vec2-base-960h": BASE | CONTRAST | {"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]},
    "wav2vec2-large-960h-lv60-self": BIG | CONTRAST | {"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]},
    "hubert-large-ls960-ft": BIG | {"model_type": "hubert", "architectures": ["HubertForCTC"], "diversity_loss_weight": 0.1},
    "wav2vec2-base": BASE | CONTRAST | {
        "model_type": "wav2vec2", "architectures": ["Wav2Vec2ForPreTraining"], "freeze_feat_extract_train": True,
        "mask_channel_length": 10, "mask_channel_min_space": 1, "mask_channel_other": 0.0, "mask_channel_prob": 0.0,
        "mask_channel_selection": "static", "mask_time_min_space": 1, "mask_time_other": 0.0, "mask_time_selection": "static",
        "no_mask_channel_overlap": False, "no_mask_time_overlap": False,
    },
    "hubert-base-ls960": BASE | {
        "model_type": "hubert", "architectures": ["HubertModel"], "tokenizer_class": "Wav2Vec2CTCTokenizer",
    },
}  # fmt: skip
WITH_LETTERS = [name for name in CONFIGS if "CTC" in CONFIGS[name]["architectures"][0]]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_config_is_that_of_the_published_file(name):
    card = bestiary.card(name)
    architecture = find_architecture(card.architecture)
    config_map = architecture.configs[card.layout]
    assert config_map.recognises(CONFIGS[name])
    config = architecture.configure(card.config)
    assert config == architecture.configure(config_map.read(CONFIGS[name]))
    expected = LARGE if "large" in name else Wav2Vec2Config()
    assert config == type(expected)(**{**vars(expected), "num_classes": config.num_classes})


@pytest.mark.parametrize("name", CONFIGS)
def test_task_and_preprocessing_are_those_of_the_published_files(name, tmp_path):
    """Beside files of letters as they are published, or none."""
    card = bestiary.card(name)
    if name in WITH_LETTERS:
        (tmp_path / "vocab.json").write_text(json.dumps({label: place for place, label in enumerate(LABELS)}))
    found = find_architecture(card.architecture).folders[card.layout].read(tmp_path, CONFIGS[name])
    assert (found.task, found.labels, found.preprocess) == (card.task, card.labels, card.preprocess)
    assert find_task(card.task)


@pytest.mark.parametrize("name", WITH_LETTERS)
def test_letters_are_those_that_torchaudio_states(name):
    """It has the same weights from their first publication, with its own name for the blank and without special labels."""
    blank, *letters = torchaudio.pipelines.WAV2VEC2_ASR_BASE_960H.get_labels()
    card = bestiary.card(name)
    assert (card.labels[0], *card.labels[4:]) == (card.preprocess["blank"], *letters) and blank == "-"


def test_a_card_as_a_task_with_random_weights():
    """What the card says fits the net and what reads with it."""
    task = load_for("wav2vec2-base-960h", "speech-alignment", pretrained=False)
    assert isinstance(task.listener, Listener) and task.rate == 16_000
    assert task.listener.letters.spelled("Don't!")[0].tokens == [14, 8, 9, 27, 6]
    assert [word.text for word in task(torch.zeros(16_000), "a b").words] == ["a", "b"]
