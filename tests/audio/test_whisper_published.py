"""Folders of Whisper in published layouts, and the cards against what their publishers state."""

import base64
import gzip
import json
import re

import numpy
import pytest
import torch
import transformers
import whisper

import bestiary
from bestiary.audio.published_whisper import LANGUAGES, SpecialTokens
from bestiary.audio.whisper import ARCHITECTURE, WhisperConfig
from bestiary.audio.whisper_layout import TRANSFORMERS_CONFIG
from bestiary.core import weights
from bestiary.errors import LayoutError
from bestiary.hub.card import Card
from bestiary.hub.lock import LOCK, Lock
from bestiary.hub.progress import standard_progress
from bestiary.hub.registry import Registry
from bestiary.hub.settings import Settings
from bestiary.hub.trust import Trust
from tests.audio.test_whisper import PUBLISHED

FOLDER = ARCHITECTURE.folders["transformers"]
OPENAI = {name: name.removeprefix("whisper-") for name in PUBLISHED if name.startswith("whisper-")}  # as its package calls them
# What config.json of whisper-large-v3 says as published; others differ in the numbers, and older ones have fewer keys
CONFIG = {
    "_name_or_path": "openai/whisper-large-v3", "activation_dropout": 0.0, "activation_function": "gelu",
    "apply_spec_augment": False, "architectures": ["WhisperForConditionalGeneration"], "attention_dropout": 0.0,
    "begin_suppress_tokens": [220, 50257], "bos_token_id": 50257, "classifier_proj_size": 256, "d_model": 1280,
    "decoder_attention_heads": 20, "decoder_ffn_dim": 5120, "decoder_layerdrop": 0.0, "decoder_layers": 32,
    "decoder_start_token_id": 50258, "dropout": 0.0, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
    "encoder_layerdrop": 0.0, "encoder_layers": 32, "eos_token_id": 50257, "init_std": 0.02, "is_encoder_decoder": True,
    "mask_feature_length": 10, "mask_feature_min_masks": 0, "mask_feature_prob": 0.0, "mask_time_length": 10,
    "mask_time_min_masks": 2, "mask_time_prob": 0.05, "max_length": 448, "max_source_positions": 1500,
    "max_target_positions": 448, "median_filter_width": 7, "model_type": "whisper", "num_hidden_layers": 32,
    "num_mel_bins": 128, "pad_token_id": 50256, "scale_embedding": False, "torch_dtype": "float16",
    "transformers_version": "4.36.0.dev0", "use_cache": True, "use_weighted_layer_sum": False, "vocab_size": 51866,
}  # fmt: skip
OLD = CONFIG.keys() - {"apply_spec_augment", "classifier_proj_size", "median_filter_width", "use_weighted_layer_sum"}


def published_config(config: WhisperConfig) -> dict:
    sizes = {"d_model": config.width, "encoder_layers": config.layers, "decoder_layers": config.decoder_layers}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_attention_heads": config.heads, f"{side}_ffn_dim": config.hidden}
    sizes |= {"vocab_size": config.vocabulary, "num_mel_bins": config.mels, "num_hidden_layers": config.layers}
    content = CONFIG | sizes
    if config.mels == 128:
        return content
    return {key: content[key] for key in OLD} | {"forced_decoder_ids": [[1, 50259]], "suppress_tokens": [1, 2, 7]}


def heads_of(name: str, config: WhisperConfig) -> list[list[int]]:
    mask = numpy.frombuffer(gzip.decompress(base64.b85decode(whisper._ALIGNMENT_HEADS[OPENAI[name]])), dtype=bool)
    return numpy.argwhere(mask.reshape(config.decoder_layers, config.heads)).tolist()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_read_and_the_cards_say_the_same(name):
    card, published = bestiary.card(name), published_config(PUBLISHED[name])
    assert TRANSFORMERS_CONFIG.recognises(published)
    assert ARCHITECTURE.configure(TRANSFORMERS_CONFIG.read(published)) == PUBLISHED[name]
    assert ARCHITECTURE.configure(card.config) == PUBLISHED[name]
    assert (card.task, card.license, card.pipeline_tag) == ("speech-recognition", "mit", "automatic-speech-recognition")


@pytest.mark.parametrize("name", PUBLISHED)
def test_preprocessing_is_that_of_the_published_files(name, tmp_path):
    card, config = bestiary.card(name), PUBLISHED[name]
    generation = {"is_multilingual": ".en" not in name}
    if name in OPENAI:
        generation["alignment_heads"] = heads_of(name, config)
    else:
        generation["alignment_heads"] = heads_of("whisper-large-v3", PUBLISHED["whisper-large-v3"])  # its teacher's
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    transformers.WhisperFeatureExtractor(feature_size=config.mels).save_pretrained(tmp_path)
    description = FOLDER.read(tmp_path, published_config(config))
    assert description.task == card.task and description.preprocess == card.preprocess
    assert description.files == {"tokenizer.json": "tokenizer"}


def test_a_folder_without_a_generation_config_has_the_heads_of_the_upper_half(tmp_path):
    preprocess = FOLDER.read(tmp_path, published_config(PUBLISHED["whisper-base"])).preprocess
    assert preprocess["alignment_heads"] == [[layer, head] for layer in (3, 4, 5) for head in range(8)]
    assert preprocess["multilingual"] is True


def test_spectra_of_another_kind_are_refused(tmp_path):
    transformers.WhisperFeatureExtractor(hop_length=80).save_pretrained(tmp_path)
    with pytest.raises(LayoutError, match=r"preprocessor_config\.json says hop_length: 80"):
        FOLDER.read(tmp_path, published_config(PUBLISHED["whisper-base"]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_function", "relu"), ("scale_embedding", True), ("use_weighted_layer_sum", True), ("new_idea", 3),
        ("tie_word_embeddings", False),
    ],
)  # fmt: skip
def test_a_config_that_asks_for_more_is_refused_by_name(key, value):
    with pytest.raises(LayoutError, match=f"config.json .*{key}: {value!r}"):
        TRANSFORMERS_CONFIG.read(CONFIG | {key: value})


def test_stacks_that_are_not_alike_are_refused_by_name():
    with pytest.raises(LayoutError, match="encoder_ffn_dim: 5120, decoder_ffn_dim: 48"):
        TRANSFORMERS_CONFIG.read(CONFIG | {"decoder_ffn_dim": 48})


@pytest.mark.parametrize("name", PUBLISHED)
def test_special_tokens_are_those_of_openais_package(name):
    config, multilingual = PUBLISHED[name], bestiary.card(name).preprocess["multilingual"]
    languages = config.vocabulary - 51765 - multilingual
    theirs = whisper.tokenizer.get_tokenizer(multilingual, num_languages=languages)
    ours = SpecialTokens.of(config.vocabulary)
    assert ours == (theirs.eot, theirs.sot, theirs.translate, theirs.transcribe, theirs.no_timestamps)
    ids = {code: ours.start + 1 + place for place, code in enumerate(LANGUAGES.split()[:languages])}
    assert ids == {code: theirs.to_language_token(code) for code in theirs.all_language_codes}
    assert ours.without_times - 2 == theirs.sot_prev


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_text_tells_how_many_weights_there_are(name):
    (said,) = re.findall(r"([\d.]+)\s+million\s+weights", bestiary.card(name).text)
    with torch.device("meta"):
        net = bestiary.build(name)
    assert said == f"{sum(parameter.numel() for parameter in net.parameters()) / 1e6:.1f}"


def export(folder, card: Card, config: WhisperConfig):
    """What `.save` of a task writes in the layout of transformers, but for the tokenizer."""
    torch.manual_seed(0)
    net = ARCHITECTURE.build(config).eval()
    weights.save(net, folder / "model.safetensors", ARCHITECTURE.rules("transformers", config, list(net.state_dict())))
    for name, content in FOLDER.write(card, TRANSFORMERS_CONFIG.write(config)).items():
        (folder / name).write_text(json.dumps(content))
    return net


SMALL = {"layers": 1, "decoder_layers": 2, "width": 16, "heads": 2, "hidden": 24}


@pytest.mark.parametrize(("name", "heads"), [("whisper-tiny", [[1, 0]]), ("whisper-large-v3", [[0, 1], [1, 1]])])
def test_transformers_recognises_by_our_export(name, heads, tmp_path):
    """In the language and with the task that it is asked for, and with times of words."""
    card = bestiary.card(name)
    card = Card(**{**vars(card), "preprocess": {**card.preprocess, "alignment_heads": heads}})
    config = WhisperConfig(**SMALL, vocabulary=PUBLISHED[name].vocabulary, mels=PUBLISHED[name].mels)
    net = export(tmp_path, card, config)
    reference = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path)
    features = transformers.WhisperFeatureExtractor.from_pretrained(tmp_path)(
        torch.randn(480000).numpy(), sampling_rate=16000, return_tensors="pt"
    ).input_features
    assert features.shape == (1, config.mels, 3000)
    decoder_input = reference.generate(
        features, language="su", task="translate", max_new_tokens=3, return_timestamps=False, return_dict_in_generate=True,
        return_token_timestamps=True,
    )  # fmt: skip
    tokens = SpecialTokens.of(config.vocabulary)
    theirs = whisper.tokenizer.get_tokenizer(True, num_languages=config.vocabulary - 51766)
    beginning = [tokens.start, theirs.to_language_token("su"), tokens.translate, tokens.without_times]
    assert decoder_input["sequences"][0][:4].tolist() == beginning
    assert len(decoder_input["token_timestamps"][0]) == len(decoder_input["sequences"][0])
    logits = reference(features, decoder_input_ids=torch.tensor([beginning])).logits
    assert (net(features, torch.tensor([beginning])) - logits).abs().max() < 1e-5
    assert FOLDER.read(tmp_path, json.loads((tmp_path / "config.json").read_text())).preprocess == card.preprocess


def test_transformers_reads_tokens_and_sound_as_our_export_of_the_real_model_says(tmp_path):
    settings = Settings.read()
    card = Registry.standard(settings).card("whisper-tiny.en")
    files = Trust(lock=Lock(LOCK)).fetch(card, settings, standard_progress())
    (tmp_path / "tokenizer.json").symlink_to(files["tokenizer.json"].path)
    export(tmp_path, card, WhisperConfig(**SMALL, vocabulary=51864))
    processor = transformers.WhisperProcessor.from_pretrained(tmp_path)
    theirs = whisper.tokenizer.get_tokenizer(False)
    text = " It was 9.30 when Zoë's «train» came…"
    assert processor.tokenizer(text, add_special_tokens=False).input_ids == theirs.encode(text)
    assert processor.tokenizer.decode([theirs.sot, *theirs.encode(text), theirs.eot], skip_special_tokens=True) == text
    assert processor.tokenizer.eos_token_id == theirs.eot
    generation = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert generation.decoder_start_token_id == theirs.sot and not generation.is_multilingual
