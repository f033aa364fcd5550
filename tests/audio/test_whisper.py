"""Whisper against transformers, OpenAI's own package and CTranslate2, both ways."""

import copy
import json
from dataclasses import replace

import numpy
import pytest
import torch
import transformers
import whisper
from ctranslate2 import StorageView, models
from safetensors.torch import load_file, save_file

import bestiary
from bestiary.audio.ctranslate2 import convert_ctranslate2
from bestiary.audio.whisper import ARCHITECTURE, Whisper, WhisperConfig
from bestiary.audio.whisper_layout import TRANSFORMERS_CONFIG
from bestiary.core import weights
from bestiary.core.cache import Cache
from bestiary.core.context import Memory
from bestiary.core.convert import convert_checkpoint
from bestiary.core.rows import for_decoding
from bestiary.core.runtime import for_inference
from bestiary.errors import LayoutError
from tests.ctranslate2_files import whisper_folder, write_ctranslate2

CPU = torch.device("cpu")
TINY = {"layers": 2, "decoder_layers": 2, "width": 32, "heads": 4, "hidden": 128, "vocabulary": 100, "mels": 8, "frames": 20}
VARIANTS = {  # with as many layers in both, and with few in the decoder
    "whisper": WhisperConfig(**TINY, context=24),
    "turbo": WhisperConfig(**{**TINY, "layers": 3, "decoder_layers": 1, "mels": 12}, context=32),
}
SIZES = {
    "tiny": {"layers": 4, "decoder_layers": 4, "width": 384, "heads": 6, "hidden": 1536},
    "base": {"layers": 6, "decoder_layers": 6, "width": 512, "heads": 8, "hidden": 2048},
    "small": {"layers": 12, "decoder_layers": 12, "width": 768, "heads": 12, "hidden": 3072},
    "medium": {"layers": 24, "decoder_layers": 24, "width": 1024, "heads": 16, "hidden": 4096},
    "large": {"layers": 32, "decoder_layers": 32, "width": 1280, "heads": 20, "hidden": 5120},
}
PUBLISHED = {
    **{f"whisper-{size}.en": WhisperConfig(**sizes, vocabulary=51864) for size, sizes in SIZES.items() if size != "large"},
    **{f"whisper-{size}": WhisperConfig(**sizes, vocabulary=51865) for size, sizes in SIZES.items() if size != "large"},
    **{f"whisper-large-v{version}": WhisperConfig(**SIZES["large"], vocabulary=51865) for version in (1, 2)},
    "whisper-large-v3": WhisperConfig(**SIZES["large"], vocabulary=51866, mels=128),
    "whisper-large-v3-turbo": WhisperConfig(**{**SIZES["large"], "decoder_layers": 4}, vocabulary=51866, mels=128),
    "distil-large-v3": WhisperConfig(**{**SIZES["large"], "decoder_layers": 2}, vocabulary=51866, mels=128),
}


def randomised(net):
    """Random values everywhere: those of norms, and positions by formula, would hide a mistake."""
    torch.manual_seed(0)
    for name, tensor in net.state_dict().items():
        tensor.normal_(std=1 if "embed" in name and "position" not in name else 0.1)
    return net.eval()


def transformers_of(config):
    ids = {"decoder_start_token_id": 1, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    return randomised(transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(**TRANSFORMERS_CONFIG.write(config), **ids, begin_suppress_tokens=None)
    ))  # fmt: skip


def dims_of(config):
    return whisper.ModelDimensions(
        config.mels, config.frames, config.width, config.heads, config.layers,
        config.vocabulary, config.context, config.width, config.heads, config.decoder_layers,
    )  # fmt: skip


def load(path, config, layout):
    return weights.load(ARCHITECTURE, config, path, layout, dtype=torch.float32)


@pytest.fixture(scope="module", params=VARIANTS)
def config(request):
    return VARIANTS[request.param]


@pytest.fixture(scope="module")
def reference(config):
    return transformers_of(config)


@pytest.fixture(scope="module")
def openai(config):
    return randomised(whisper.model.Whisper(dims_of(config)))


@pytest.fixture(scope="module")
def net(reference, config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    reference.save_pretrained(folder)
    return load(folder / "model.safetensors", config, "transformers")


def inputs_for(config, batch=3, length=17):
    torch.manual_seed(1)
    features = torch.randn(batch, config.mels, 2 * config.frames)
    return features, torch.randint(config.vocabulary, (batch, length))


def difference(a, b):
    return float((a - b).abs().max() / max(1, float(b.abs().max())))


@torch.no_grad()
def check_parity(net, reference):
    features, tokens = inputs_for(net.config)
    lengths = torch.tensor([17, 4, 9])
    mask = torch.arange(17) < lengths[:, None]
    expected = reference(features, decoder_input_ids=tokens)
    padded = reference(features, decoder_input_ids=tokens, decoder_attention_mask=mask.long()).logits
    for form in (net, for_inference(net), for_decoding(net)):
        assert difference(form.encode(features), expected.encoder_last_hidden_state) < 1e-5
        assert difference(form(features, tokens), expected.logits) < 1e-5
        assert difference(form(features, tokens, mask)[mask], padded[mask]) < 1e-5


@torch.no_grad()
def check_openai_parity(net, reference):
    features, tokens = inputs_for(net.config)
    assert difference(net.encode(features), reference.encoder(features)) < 1e-5
    assert difference(net(features, tokens), reference(features, tokens)) < 1e-5


def test_equals_transformers(net, reference):
    check_parity(net, reference)


def test_equals_openais_package_and_the_way_back(config, openai, tmp_path):
    torch.save({"dims": vars(openai.dims), "model_state_dict": openai.state_dict()}, tmp_path / "model.pt")
    convert_checkpoint(tmp_path / "model.pt", tmp_path / "model.safetensors")
    net = load(tmp_path / "model.safetensors", config, "openai")
    check_openai_parity(net, openai)
    weights.save(net, tmp_path / "back.safetensors", ARCHITECTURE.rules("openai", config, list(net.state_dict())))
    back, theirs = load_file(tmp_path / "back.safetensors"), openai.state_dict()
    assert back.keys() == theirs.keys() and all(torch.equal(back[name], theirs[name]) for name in theirs)


def test_openais_package_loads_our_export(config, tmp_path):
    net = randomised(Whisper(config))
    weights.save(net, tmp_path / "model.safetensors", ARCHITECTURE.rules("openai", config, list(net.state_dict())))
    reference = whisper.model.Whisper(dims_of(config)).eval()
    reference.load_state_dict(load_file(tmp_path / "model.safetensors"))
    check_openai_parity(net, reference)


@pytest.mark.parametrize("quantization", [None, "float16", "int8"])
def test_equals_what_ctranslate2_was_made_of_and_the_way_back(config, reference, tmp_path, quantization):
    write_ctranslate2(tmp_path, reference, quantization)
    convert_ctranslate2(tmp_path / "model.bin", tmp_path / "model.safetensors")
    net = load(tmp_path / "model.safetensors", config, "ctranslate2")
    exact = reference.model.encoder.layers[0].self_attn.v_proj.weight.data
    ours = net.encoder.blocks[0].attention.value.weight.data
    if quantization is None:
        check_parity(net, reference)
    assert difference(ours, exact) <= {None: 0, "float16": 1e-3, "int8": 0.5 / 127}[quantization]
    weights.save(net, tmp_path / "back.safetensors", ARCHITECTURE.rules("ctranslate2", config, list(net.state_dict())))
    back, theirs = load_file(tmp_path / "back.safetensors"), load_file(tmp_path / "model.safetensors")
    copies = {"decoder/projection/weight"}
    assert theirs.keys() - back.keys() == {name for name in theirs if not theirs[name].dim()} | copies
    assert all(torch.equal(back[name], theirs[name].float()) for name in back)


def test_a_bias_of_the_keys_is_refused(config, reference, tmp_path):
    write_ctranslate2(tmp_path, reference)
    convert_ctranslate2(tmp_path / "model.bin", tmp_path / "model.safetensors")
    state = load_file(tmp_path / "model.safetensors")
    state["encoder/layer_0/self_attention/linear_0/bias"][config.width] = 1
    save_file(state, tmp_path / "biased.safetensors")
    with pytest.raises(LayoutError, match="a bias of the keys"):
        load(tmp_path / "biased.safetensors", config, "ctranslate2")


@torch.no_grad()
def test_token_by_token_equals_all_at_once(net, reference):
    features, tokens = inputs_for(net.config)
    expected = reference(features, decoder_input_ids=tokens).logits
    for form in (net, for_inference(net), for_decoding(net)):
        cache = Cache(sequences=3, capacity=17, memory=Memory(form.encode(features)))
        steps = [form.decoder(piece, cache.continuing(piece.shape[1], CPU)) for piece in tokens.split((4, *[1] * 13), dim=1)]
        assert difference(torch.cat(steps, dim=1), expected) < 1e-5


@torch.no_grad()
def test_less_sound_than_a_whole_window_stands_at_the_first_positions(net):
    """What no other library computes: half a window is the beginning of the positions, and not the whole of them."""
    features, _ = inputs_for(net.config)
    half = net.encode(features[:, :, : net.config.frames])
    shorter = replace(net.config, frames=net.config.frames // 2)
    twin = Whisper(shorter).eval()
    state = net.state_dict()
    twin.load_state_dict(state | {"encoder.positions.weight": state["encoder.positions.weight"][: shorter.frames]})
    assert torch.equal(half, twin.encode(features[:, :, : 2 * shorter.frames]))


def test_the_reference_loads_our_export(config, tmp_path):
    net = randomised(Whisper(config))
    weights.save(net, tmp_path / "model.safetensors", ARCHITECTURE.rules("transformers", config, list(net.state_dict())))
    ids = {"decoder_start_token_id": 1, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    (tmp_path / "config.json").write_text(json.dumps(TRANSFORMERS_CONFIG.write(config) | ids))
    kind = transformers.WhisperForConditionalGeneration
    reference, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    check_parity(net, reference.eval())


def test_what_was_read_is_written_again(net, reference, config, tmp_path):
    weights.save(net, tmp_path / "ours.safetensors", ARCHITECTURE.rules("transformers", config, list(net.state_dict())))
    reference.save_pretrained(tmp_path)
    ours, theirs = load_file(tmp_path / "ours.safetensors"), load_file(tmp_path / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_files_without_a_prefix_and_with_a_copy_of_the_embedding_are_read(net, reference, config, tmp_path):
    state = {name.removeprefix("model."): tensor.clone() for name, tensor in reference.state_dict().items()}
    assert "proj_out.weight" in state
    save_file(state, tmp_path / "old.safetensors")
    old = load(tmp_path / "old.safetensors", config, "transformers")
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in old.state_dict().items())


@pytest.mark.parametrize("layout", ["transformers", "openai", "ctranslate2"])
def test_positions_that_a_file_lacks_are_the_formulas(config, tmp_path, layout):
    net = randomised(Whisper(config))
    weights.save(net, tmp_path / "whole.safetensors", ARCHITECTURE.rules(layout, config, list(net.state_dict())))
    state = load_file(tmp_path / "whole.safetensors")
    names = [name for name in state if "position" in name and "encoder" in name]
    assert len(names) == 1 and state.pop(names[0]).shape == (config.frames, config.width)
    save_file(state, tmp_path / "without.safetensors")
    read = load(tmp_path / "without.safetensors", config, layout).encoder.positions.weight
    assert torch.equal(read, whisper.model.sinusoids(config.frames, config.width))
    assert torch.equal(read, Whisper(config).encoder.positions.weight)


@pytest.mark.full
@pytest.mark.parametrize("config", PUBLISHED.values(), ids=PUBLISHED)
def test_published_sizes_equal_the_references(config, tmp_path):
    """With two layers of each stack."""
    config = replace(config, layers=2, decoder_layers=2)
    reference = transformers_of(config)
    reference.save_pretrained(tmp_path)
    net = load(tmp_path / "model.safetensors", config, "transformers")
    check_parity(net, reference)
    del reference
    theirs = whisper.model.Whisper(dims_of(config)).eval()
    theirs.load_state_dict(weights_of(net, "openai", tmp_path))
    check_openai_parity(net, theirs)


def weights_of(net, layout, folder):
    weights.save(net, folder / "export.safetensors", ARCHITECTURE.rules(layout, net.config, list(net.state_dict())))
    return load_file(folder / "export.safetensors")


@pytest.fixture(scope="module")
def tiny():
    return bestiary.build("whisper-tiny.en", pretrained=True).float().eval()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return models.Whisper(str(whisper_folder(tmp_path_factory.mktemp("ctranslate2"))), compute_type="float32", intra_threads=1)


@torch.no_grad()
def test_the_real_file_is_computed_as_ctranslate2_does(tiny, theirs):
    """What the encoder hears, and what the decoder says to every token of the text that CTranslate2 chooses."""
    torch.manual_seed(0)
    features = torch.randn(2, 80, 3000).cumsum(2).clamp(-1, 1)
    encoded = theirs.encode(StorageView.from_array(features.numpy()), to_cpu=True)
    assert difference(tiny.encode(features), torch.from_numpy(numpy.array(encoded))) < 1e-5
    prompt, end = [50257, 50362], 50256  # <|startoftranscript|><|notimestamps|>, <|endoftext|>
    generated = theirs.generate(
        StorageView.from_array(features.numpy()), [prompt, prompt], beam_size=1, max_length=24, return_logits_vocab=True,
        suppress_blank=False, suppress_tokens=[end],
    )  # fmt: skip
    for row, answer in enumerate(generated):
        said = torch.from_numpy(numpy.stack([numpy.array(logits).ravel() for logits in answer.logits[0]]))
        tokens = torch.tensor([[*prompt, *answer.sequences_ids[0]]])
        ours = tiny(features[row : row + 1], tokens)[0, len(prompt) - 1 :][: len(said)]
        said[:, end] = ours[:, end]  # which is out of reach there, or the text would be a short one
        assert len(said) > 10 and difference(ours, said) < 1e-5


def test_the_positions_of_the_real_file_are_the_formulas_but_rounded(tiny):
    positions = tiny.encoder.positions.weight
    assert torch.equal(positions, positions.half().float())
    assert 0 < difference(positions, whisper.model.sinusoids(1500, 384)) < 1e-3


def test_copies_keep_the_positions(net):
    twin = copy.deepcopy(net)
    twin.encoder.positions.reset_parameters()
    assert torch.equal(twin.encoder.positions.weight, Whisper(net.config).encoder.positions.weight)
    assert not torch.equal(twin.encoder.positions.weight, net.encoder.positions.weight)
