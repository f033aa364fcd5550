"""Images to vectors: the real classifier's, on real photos."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bestiary
from bestiary.errors import InputError, LayoutError
from bestiary.table import find_architecture
from bestiary.vision.tasks.embedding import ImageEmbedder
from tests.test_contract import CASES

PHOTO = Path(bestiary.__file__).parent.parent / "scripts" / "chelsea.jpg"


@pytest.fixture(scope="module")
def classify():
    return bestiary.load("efficientnet-lite0", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def embed(classify):
    return classify.embedder()


@pytest.fixture(scope="module")
def photos():
    """The cat, a part of it, noise, a plain grey."""
    cat = Image.open(PHOTO)
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    return [cat, cat.crop((60, 0, 420, 300)), Image.fromarray(noise), Image.new("RGB", (50, 50), (128, 128, 128))]


@pytest.fixture
def folder(photos, tmp_path):
    """These four at several depths, and beside them what is none of an image's business."""
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for photo, name in zip(photos, ("a.png", "b/cut.PNG", "b/deep/noise.bmp", "grey.webp"), strict=True):
        photo.save(tmp_path / name, lossless=True)
    (tmp_path / "notes.txt").write_text("no image")
    shutil.copy(tmp_path / "a.png", tmp_path / ".hidden" / "a.png")
    return tmp_path


def test_vectors_are_the_pooled_features_at_length_one(classify, embed, photos):
    vectors = embed(photos)
    assert vectors.shape == (4, 1280) and vectors.dtype == torch.float32 and vectors.device.type == "cpu"
    pooled = classify.features(photos).mean((2, 3))
    torch.testing.assert_close(vectors, pooled / pooled.norm(dim=1, keepdim=True), atol=1e-5, rtol=1e-4)
    assert embed.net is classify.net


def test_one_gives_one_a_list_a_tensor_an_iterator_an_iterator(embed, photos):
    vectors = embed(photos, batch_size=3)
    torch.testing.assert_close(embed(photos[0]), vectors[0], atol=1e-5, rtol=1e-4)
    assert embed(photos[:1]).shape == (1, 1280) and embed([]).shape == (0, 1280)
    stream = embed(iter(photos), batch_size=1)
    torch.testing.assert_close(next(stream), vectors[0], atol=1e-5, rtol=1e-4)
    assert len(list(stream)) == 3


def test_similarity_is_the_cosine(embed, photos):
    similarity = embed.similarity(photos[:1], photos)
    assert similarity.shape == (1, 4) and similarity[0, 0] == pytest.approx(1, abs=1e-5)
    assert similarity[0, 1] > 0.7 > similarity[0, 2:].max()  # a part of the cat is more like it than noise
    torch.testing.assert_close(embed.similarity(photos[0], iter(photos)), similarity)
    assert embed.similarity([], photos).shape == (0, 4)


def test_search_looks_through_a_folder_at_any_depth(embed, photos, folder):
    found = embed.search(photos[1], folder, top=3, batch_size=2)
    assert [match.image.relative_to(folder).as_posix() for match in found[:2]] == ["b/cut.PNG", "a.png"]
    assert found[0].score == pytest.approx(1, abs=1e-5) and found[0].score > found[1].score > found[2].score
    assert sorted(match.index for match in embed.search(photos[1], str(folder), top=9)) == [0, 1, 2, 3]


def test_several_queries_give_several_lists_and_any_images_are_a_corpus(embed, photos):
    found = embed.search(photos[:2], iter(photos), top=2, batch_size=3)
    assert [[match.index for match in matches] for matches in found] == [[0, 1], [1, 0]]
    assert found[0][0].image is photos[0]
    assert embed.search(photos[0], []) == [] and embed.search([], photos) == []


def test_search_tells_every_pair_what_similarity_does(embed, photos):
    similarity = embed.similarity(photos, photos)
    for row, matches in zip(similarity, embed.search(photos, photos, top=4), strict=True):
        assert [match.score for match in matches] == pytest.approx(sorted(row.tolist(), reverse=True), abs=1e-5)


def test_what_cannot_be_read_is_named_and_left_out(embed, photos, folder):
    (folder / "broken.jpg").write_bytes(b"no image")
    Image.new("RGB", (1, 500)).save(folder / "strip.png")
    with pytest.raises(InputError, match=r"broken\.jpg"):
        embed.search(photos[0], folder)
    with pytest.warns(UserWarning, match=r"skipped: .*broken.jpg"), pytest.warns(UserWarning, match=r"skipped: .*strip.png"):
        found = embed.search(photos[0], folder, errors="skip")
    assert len(found) == 4 and not {"broken.jpg", "strip.png"} & {match.image.name for match in found}
    with pytest.warns(UserWarning, match=r"skipped: image 1 "):
        vectors = embed([photos[0], b"no image", photos[1]], errors="skip")
    assert vectors.shape == (3, 1280) and vectors[1].isnan().all() and vectors[[0, 2]].isfinite().all()
    with pytest.warns(UserWarning, match="skipped"):
        assert embed([b"no image"], errors="skip").isnan().all() and embed(b"no image", errors="skip") is None


def test_messages_count_through_the_batches_of_a_search(embed, photos):
    with pytest.raises(InputError, match="image 3 "):
        embed.search(photos[0], [*photos[:3], b"no image"], batch_size=2)


@pytest.mark.parametrize("corpus", [PHOTO, "nowhere", b"bytes", Image.new("RGB", (8, 8)), 7, {"image": PHOTO}])
def test_a_corpus_that_is_none_is_refused(embed, photos, corpus):
    with pytest.raises(InputError, match=r"folder") as caught:
        embed.search(photos[0], corpus)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_folder_without_images_is_refused(embed, photos, tmp_path):
    with pytest.raises(InputError, match="there are no images in"):
        embed.search(photos[0], tmp_path)
    with pytest.raises(InputError, match="top="):
        embed.search(photos[0], photos, top=0)


def test_the_card_says_whether_vectors_are_normalised(embed, photos):
    def with_keys(**keys):
        card = replace(embed.card, preprocess={**embed.card.preprocess, **keys})
        return ImageEmbedder(embed.net, card, embed.provenance, None)

    plain = with_keys(normalize=False)(photos)
    torch.testing.assert_close(plain / plain.norm(dim=1, keepdim=True), with_keys(normalize=True)(photos))
    assert plain[0].norm() > 2
    with pytest.raises(LayoutError, match="normalize"):
        with_keys(normalize="yes")
    with pytest.raises(LayoutError, match="normalise"):
        with_keys(normalise=True)


def test_saved_it_is_loaded_as_an_embedder(embed, photos, tmp_path):
    embed.save(tmp_path / "saved")
    loaded = bestiary.load(f"{tmp_path}/saved", device="cpu")
    assert isinstance(loaded, ImageEmbedder)
    torch.testing.assert_close(loaded(photos[0]), embed(photos[0]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("config", [{}, {"num_classes": 0, "pooling": "class_mean"}], ids=["a head", "no head"])
def test_nets_of_tokens_embed_too(classify, photos, config):
    architecture = find_architecture("vit")
    torch.manual_seed(0)
    net = architecture.net(architecture.configure({**CASES["vit"].config, **config})).eval()
    card = replace(classify.card, task="image-embedding", preprocess={**classify.card.preprocess, "size": 48})
    embed = ImageEmbedder(net, card, {}, None)
    with torch.no_grad():
        pooled = net.pooled(embed.preprocess(photos))
    torch.testing.assert_close(embed(photos), torch.nn.functional.normalize(pooled), atol=1e-5, rtol=1e-5)
    assert embed([]).shape == (0, pooled.shape[1])


def test_the_report_of_a_command_line(embed, folder):
    report = embed.report([str(folder / "a.png"), str(folder / "grey.webp")])
    assert report.columns == ["image", "to 1", "to 2"] and report.rows[0][:2] == [str(folder / "a.png"), 1.0]
    assert len(report.records[1]["vector"]) == 1280 and report.rows[0][2] == report.rows[1][1]
