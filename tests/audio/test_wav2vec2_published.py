"""Folders as transformers writes them, read as tasks, and written so that it reads them."""

import json
import re
import shutil

import pytest
import torch
import transformers

import bestiary
from bestiary.audio.sound import read_sound
from bestiary.audio.tasks.alignment import Aligner
from bestiary.audio.tasks.embedding import AudioEmbedder
from bestiary.errors import LayoutError
from bestiary.loading import load_for
from tests.audio.spoken import LABELS
from tests.audio.voices import SHORT

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
KINDS = {"base": ("Wav2Vec2", {}), "large": ("Wav2Vec2", LARGE), "hubert": ("Hubert", LARGE)}


def written(folder, name, more, *, head=True, normalize=True, **tokenizer):
    """A folder with random weights; the model, and its processor or feature extractor."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SIZES, **more, vocab_size=len(LABELS), pad_token_id=0)
    model = getattr(transformers, name + ("ForCTC" if head else "Model"))(config).eval()
    for key, parameter in model.named_parameters():
        parameter.data.normal_(mean=float("norm" in key and key.endswith("weight")), std=0.3)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize, return_attention_mask=True)
    extractor.save_pretrained(folder)
    if head:  # no letter shall be the likeliest all the time
        with torch.no_grad():
            heard = extractor(read_sound(SHORT, 16_000).numpy(), sampling_rate=16_000, return_tensors="pt").input_values
            model.lm_head.bias -= model(heard).logits.mean((0, 1))
    model.save_pretrained(folder)
    if not head:
        return model, extractor
    (folder / "letters.json").write_text(json.dumps({label: number for number, label in enumerate(LABELS)}))
    letters = transformers.Wav2Vec2CTCTokenizer(folder / "letters.json", **tokenizer)
    (folder / "letters.json").unlink()
    letters.save_pretrained(folder)
    return model, transformers.Wav2Vec2Processor(extractor, letters)


def transcript_of(model, processor, samples):
    with torch.no_grad():
        logits = model(**processor(samples.numpy(), sampling_rate=16_000, return_tensors="pt")).logits
    text = processor.batch_decode(logits.argmax(-1))[0]  # leaving special tokens out would also join what blanks keep apart
    return re.sub("<.*?>", "", text)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_reads_what_the_reference_reads(kind, normalize, tmp_path):
    model, processor = written(tmp_path, *KINDS[kind], normalize=normalize)
    samples = read_sound(SHORT, 16_000)
    task = bestiary.load(tmp_path)
    assert task.card.preprocess == {"rate": 16_000, "normalize": normalize, "blank": "<pad>", "delimiter": "|"}
    assert task.card.labels == LABELS
    expected = transcript_of(model, processor, samples)
    assert len(expected) > 20
    assert task(samples, voice=None).text.split() == expected.split()
    both = task([samples, samples[:20_000]], voice=None)
    assert both[1].text.split() == transcript_of(model, processor, samples[:20_000]).split()


def test_the_reference_reads_the_folder_that_is_exported(tmp_path):
    model, processor = written(tmp_path / "theirs", "Hubert", LARGE)
    task = bestiary.load(tmp_path / "theirs")
    task.export(tmp_path / "ours", "transformers")
    again = transformers.HubertForCTC.from_pretrained(tmp_path / "ours").eval()
    reader = transformers.Wav2Vec2Processor.from_pretrained(tmp_path / "ours")
    samples = read_sound(SHORT, 16_000)
    assert again.config.pad_token_id == 0
    assert transcript_of(again, reader, samples) == transcript_of(model, processor, samples)
    assert reader.feature_extractor.to_dict() == processor.feature_extractor.to_dict()
    assert bestiary.load(tmp_path / "ours").card.preprocess == task.card.preprocess


def test_a_task_is_saved_and_loaded(tmp_path):
    written(tmp_path / "theirs", "Wav2Vec2", {}, do_lower_case=True)
    task = bestiary.load(tmp_path / "theirs")
    task.save(tmp_path / "saved")
    again = bestiary.load(tmp_path / "saved")
    found = task(SHORT, voice=None)
    assert found.text and found.text == found.text.lower()
    assert again(SHORT, voice=None) == found and again.card.labels == LABELS
    again.export(tmp_path / "exported", "transformers")
    assert bestiary.load(tmp_path / "exported").card.preprocess["lowercase"] is True


@pytest.mark.parametrize("kind", ["base", "large"])
@pytest.mark.parametrize(("precision", "within"), [("bf16", 0.2), ("fp16", 0.05), ("int8", 0.2)])
def test_lower_precisions_hear_nearly_the_same(kind, precision, within, tmp_path):
    written(tmp_path, *KINDS[kind])
    samples = [read_sound(SHORT, 16_000)]
    (expected,) = bestiary.load(tmp_path).reader.listener.hear(samples)
    task = bestiary.load(tmp_path, precision=precision)
    for listener in (task.reader.listener, task.aligner().listener):
        (heard,) = listener.hear(samples)
        assert heard.dtype == torch.float32 and 0 < float((heard - expected).abs().max()) < within


def test_what_recognises_aligns_as_well(tmp_path):
    written(tmp_path, "Wav2Vec2", LARGE)
    align = load_for(tmp_path, "speech-alignment")
    found = align(SHORT, "Agent, please enter")
    assert [word.text for word in found.words] == ["Agent,", "please", "enter"]
    starts = [word.start for word in found.words]
    assert starts == sorted(starts) and found.words[-1].end <= 4
    aligner = bestiary.load(tmp_path).aligner()
    assert aligner(SHORT, "Agent, please enter") == found
    aligner.save(tmp_path / "saved")
    again = bestiary.load(tmp_path / "saved")
    assert isinstance(again, Aligner)
    report = again.report([str(SHORT), "Agent, please enter"])
    assert [record["text"] for record in report.records] == ["Agent,", "please", "enter"]


def test_a_new_head_for_other_letters(tmp_path):
    written(tmp_path, "Wav2Vec2", {}, head=False)
    task = load_for(tmp_path, "audio-embedding")
    assert isinstance(task, AudioEmbedder)
    net = bestiary.build(tmp_path, pretrained=True, num_classes=5)
    kept = {name: tensor for name, tensor in task.net.state_dict().items()}
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in kept.items())
    assert net.head.out_features == 5


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_embeds_what_the_reference_hears(kind, tmp_path):
    name, more = KINDS[kind]
    model, extractor = written(tmp_path, name, more, head=False)
    embed = bestiary.load(tmp_path)
    assert isinstance(embed, AudioEmbedder) and embed.card.task == "audio-embedding"
    samples = read_sound(SHORT, 16_000)
    with torch.no_grad():
        states = model(extractor(samples.numpy(), sampling_rate=16_000, return_tensors="pt").input_values).last_hidden_state
    expected = torch.nn.functional.normalize(states.mean(1)[0], dim=0)
    assert torch.allclose(embed(samples), expected, atol=1e-5)
    embed.export(tmp_path / "exported", "transformers")
    again = getattr(transformers, f"{name}Model").from_pretrained(tmp_path / "exported").eval()
    with torch.no_grad():
        assert torch.allclose(again(samples[None]).last_hidden_state, model(samples[None]).last_hidden_state, atol=1e-5)


def test_a_processor_of_newer_releases_is_read(tmp_path):
    """All that is said of sound then stands in one file with the rest."""
    _, processor = written(tmp_path, "Wav2Vec2", {}, normalize=False)
    (tmp_path / "preprocessor_config.json").unlink()
    processor.save_pretrained(tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()
    assert bestiary.load(tmp_path).card.preprocess["normalize"] is False


def test_letters_that_were_added_and_letters_without_a_name(tmp_path):
    """As who tunes by the usual recipe has them: some labels of the head only in added_tokens.json, one in no file."""
    written(tmp_path, "Wav2Vec2", {})
    few = {label: number for number, label in enumerate(LABELS[:29])}
    (tmp_path / "vocab.json").write_text(json.dumps(few))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<x>": 29, "<y>": 30, "<beyond>": 40}))
    assert bestiary.load(tmp_path).card.labels == (*LABELS[:29], "<x>", "<y>", "<31>")


def test_folders_that_are_not_whole_are_refused(tmp_path):
    written(tmp_path / "whole", "Wav2Vec2", {})
    for name, change, message in (
        ("no vocabulary", lambda folder: (folder / "vocab.json").unlink(), "vocab.json"),
        ("no blank", lambda folder: _say(folder / "tokenizer_config.json", pad_token="<nothing>"), "no blank '<nothing>'"),
        ("languages", lambda folder: (folder / "vocab.json").write_text('{"eng": {"a": 0}}'), "not letters and their numbers"),
    ):
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        change(tmp_path / name)
        with pytest.raises(LayoutError, match=message):
            bestiary.load(tmp_path / name)


def _say(path, **keys):
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
