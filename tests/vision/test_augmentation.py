"""What training changes about images at random: how often, by how much, and every time the same where it is asked to be."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import bestiary
from bestiary.errors import InputError
from bestiary.vision.augmentation import PRESETS, Augmentation, RepeatedSampler
from bestiary.vision.images import read_pixels
from bestiary.vision.transforms import Preprocess

PHOTO = Path(bestiary.__file__).parent.parent / "scripts" / "chelsea.jpg"
PREPROCESS = Preprocess(size=48, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
STILL = Augmentation(area=(1.0, 1.0), shape=(1.0, 1.0), mirrored=0.0)  # changes nothing but the size


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def square(value=None):
    """A grey square, or one that is darker on the left and at the top."""
    if value is not None:
        return torch.full((3, 48, 48), value, dtype=torch.uint8)
    return torch.arange(48, dtype=torch.uint8).repeat(3, 48, 1) * 3 + torch.arange(48, dtype=torch.uint8)[:, None]


def colours(image):
    """What the net gets, as the 255 steps of a colour again."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PREPROCESS.mean, PREPROCESS.std))
    return (image * std + mean) * 255


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_what_the_net_takes(name, interpolation):
    change = PRESETS[name].for_images(replace(PREPROCESS, interpolation=interpolation))
    for seed in range(8):
        image = change(PHOTO, seeded(seed))
        assert image.shape == (3, 48, 48) and image.dtype == torch.float32
        assert image[None].is_contiguous(memory_format=torch.channels_last)
        assert image.isfinite().all() and image.abs().max() < 8


def test_without_changes_an_image_is_as_in_evaluation():
    change = STILL.for_images(PREPROCESS)
    assert torch.allclose(change(square()), PREPROCESS([square()])[0], atol=1e-6)


@pytest.mark.parametrize("name", PRESETS)
def test_a_generator_decides_everything(name):
    change = PRESETS[name].for_images(PREPROCESS)
    first = change(PHOTO, seeded(7))
    torch.manual_seed(1)
    assert torch.equal(change(PHOTO, seeded(7)), first)
    assert not torch.equal(change(PHOTO, seeded(8)), first)


def test_a_generator_goes_on_from_image_to_image():
    change, one, other = PRESETS["deit"].for_images(PREPROCESS), seeded(0), seeded(0)
    images = [change(PHOTO, one) for _ in range(3)]
    assert all(torch.equal(change(PHOTO, other), image) for image in images)
    assert not torch.equal(images[0], images[1])


def test_a_generator_leaves_the_common_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    PRESETS["deit"].for_images(PREPROCESS)(PHOTO, seeded(0))
    PRESETS["deit"].for_batches(5)(torch.rand(4, 3, 8, 8, generator=seeded(0)), torch.arange(4), seeded(0))
    assert torch.equal(torch.rand(3), expected)


def test_without_a_generator_the_common_seed_decides():
    change = PRESETS["a1"].for_images(PREPROCESS)
    images = []
    for _ in range(2):
        torch.manual_seed(3)
        images.append(change(PHOTO))
    assert torch.equal(*images) and not torch.equal(images[0], change(PHOTO))


class Photos(Dataset):
    def __init__(self, change):
        self.change, self.photo = change, read_pixels(PHOTO)

    def __len__(self):
        return 6

    def __getitem__(self, number):
        return self.change(self.photo, seeded(number))


def test_the_number_of_workers_changes_nothing():
    photos = Photos(PRESETS["deit"].for_images(PREPROCESS))
    alone, together = (torch.cat(list(DataLoader(photos, 2, num_workers=workers))) for workers in (0, 2))
    assert torch.equal(alone, together)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_mirrored_images(share):
    change = replace(STILL, mirrored=share).for_images(PREPROCESS)
    mirrored = sum(bool(image[0, 0, 0] > image[0, 0, -1]) for image in (change(square(), seeded(seed)) for seed in range(300)))
    assert abs(mirrored / 300 - share) < 0.1 * (0 < share < 1) + 1e-9


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_and_the_size_of_what_is_erased(share):
    change = replace(STILL, erased=share).for_images(PREPROCESS)
    plain = STILL.for_images(PREPROCESS)(square(124))
    noise = [(change(square(124), seeded(seed)) != plain).all(0) for seed in range(300)]
    erased = [places for places in noise if places.any()]
    assert abs(len(erased) / 300 - share) < 0.1 * (0 < share < 1) + 1e-9
    for places in erased:
        rows, columns = (int(places.any(axis).sum()) for axis in (1, 0))
        assert places.sum() == rows * columns  # a rectangle
        assert 0.015 < rows * columns / 48**2 < 0.35
    if erased:
        first = [seed for seed in range(300) if noise[seed].any()][:20]
        values = torch.cat([change(square(124), seeded(seed))[:, noise[seed]].flatten() for seed in first])
        assert abs(values.mean()) < 0.1 and abs(values.std() - 1) < 0.1


def test_what_is_cut_out_is_as_large_as_asked():
    """Where it lies and how large it is can be read from the colours, which rise from left to right and from top to bottom."""
    height, width = torch.meshgrid(torch.arange(200), torch.arange(200), indexing="ij")
    image = torch.stack([height, width, height]).to(torch.uint8)
    change = Augmentation(area=(0.25, 0.5), shape=(0.5, 2.0)).for_images(PREPROCESS)
    for seed in range(50):
        seen = colours(change(image, seeded(seed)))
        rows, columns = (float(seen[i].max() - seen[i].min()) * 48 / 47 for i in (0, 1))
        assert 0.23 < rows * columns / 200**2 < 0.53
        assert 0.47 < columns / rows < 2.13


def test_jitter_stays_within_its_factor():
    change = replace(STILL, jitter=0.3).for_images(PREPROCESS)
    seen = [float(colours(change(square(100), seeded(seed))).mean()) for seed in range(100)]
    assert 69 <= min(seen) < 80 and 120 < max(seen) <= 131


def test_operations_grow_with_their_magnitude():
    plain = STILL.for_images(PREPROCESS)(PHOTO)

    def distance(magnitude):
        change = replace(STILL, layers=2, magnitude=magnitude).for_images(PREPROCESS)
        return sum(float((change(PHOTO, seeded(seed)) - plain).abs().mean()) for seed in range(60))

    weak, middle, strong = map(distance, (1.0, 5.0, 10.0))
    assert 0 < weak < 0.8 * middle < 0.8 * strong


def test_the_share_of_operations_that_are_carried_out():
    def same(share):
        change = replace(STILL, layers=1, magnitude=9.0, applied=share).for_images(PREPROCESS)
        plain = STILL.for_images(PREPROCESS)(PHOTO)
        return sum(torch.equal(change(PHOTO, seeded(seed)), plain) for seed in range(200)) / 200

    always = same(1.0)
    assert same(0.0) == 1 and always < 0.25  # one of the 14 operations is to do nothing
    assert abs(same(0.5) - (0.5 + always / 2)) < 0.12


def test_magnitudes_vary_about_the_one_asked_for():
    operate = replace(STILL, layers=1, magnitude=7.0, deviation=0.5).for_images(PREPROCESS).operate
    torch.manual_seed(0)
    found = []
    for _ in range(300):
        operate(square())
        found.append(operate.one.magnitude / 10)
    found = torch.tensor(found)
    assert abs(found.mean() - 7) < 0.15 and abs(found.std() - 0.5) < 0.1


def test_the_strongest_magnitude_is_the_limit():
    operate = replace(STILL, layers=1, magnitude=10.0, deviation=3.0).for_images(PREPROCESS).operate
    torch.manual_seed(0)
    found = set()
    for _ in range(50):
        operate(square())
        found.add(operate.one.magnitude)
    assert max(found) == 100 and min(found) >= 0


def batch(count=8, classes=5):
    """Images that are all of the number of their place, and labels."""
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 16, 16).clone()
    return images, torch.arange(count) % classes


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_are_mixed_as_the_images_are(mixup, cutmix, smoothing):
    images, labels = batch()
    mix = replace(STILL, mixup=mixup, cutmix=cutmix, smoothing=smoothing).for_batches(8)
    labels = torch.arange(8)  # each a class of its own, of the colour of its number
    for seed in range(20):
        mixed, shares = mix(images, labels, seeded(seed))
        assert mixed.shape == images.shape and shares.shape == (8, 8)
        assert torch.allclose(shares.sum(1), torch.ones(8), atol=1e-6)
        hard = (shares - smoothing / 8) / (1 - smoothing)
        assert torch.allclose(hard @ torch.arange(8.0), mixed.mean((1, 2, 3)), atol=1e-4)
        assert (hard > 1e-6).sum(1).max() <= 2


def test_mixup_blends_and_cutmix_pastes():
    images, labels = batch()
    blended, _ = replace(STILL, mixup=1.0).for_batches(5)(images, labels, seeded(0))
    assert all(len(image.unique()) == 1 for image in blended) and not set(blended.unique().tolist()) <= set(range(8))
    pasted, _ = replace(STILL, cutmix=1.0).for_batches(5)(images, labels, seeded(0))
    assert all(len(image.unique()) == 2 for image in pasted) and set(pasted.unique().tolist()) <= set(range(8))


def test_each_of_two_ways_to_mix_has_half_of_the_batches():
    images, labels = batch()
    mix = replace(STILL, mixup=1.0, cutmix=1.0).for_batches(5)
    whole = sum(set(mix(images, labels, seeded(seed))[0].unique().tolist()) <= set(range(8)) for seed in range(200))
    assert 75 <= whole <= 125


def test_repeated_images_are_mixed_with_others():
    """Three in a row are the same image, and with its neighbour most would be mixed with themselves."""
    labels = torch.arange(32).repeat_interleave(3)
    images = labels.float().view(-1, 1, 1, 1).expand(-1, 3, 4, 4).clone()
    _, shares = replace(STILL, mixup=5.0).for_batches(32)(images, labels, seeded(0))
    assert ((shares > 0.01).sum(1) == 2).float().mean() > 0.85


def test_batches_follow_from_the_generator():
    images, labels = batch()
    mix = PRESETS["deit"].for_batches(5)
    (one, shares), (two, again) = (mix(images, labels, seeded(4)) for _ in range(2))
    assert torch.equal(one, two) and torch.equal(shares, again)
    assert not torch.equal(one, mix(images, labels, seeded(5))[0])
    assert torch.equal(images, batch()[0])  # what was given is left as it was


def test_without_mixing_labels_are_only_smoothed():
    images, labels = batch()
    same, shares = replace(STILL, smoothing=0.2).for_batches(5)(images, labels)
    assert same is images
    assert torch.allclose(shares, torch.nn.functional.one_hot(labels, 5) * 0.8 + 0.04)
    loss = torch.nn.functional.cross_entropy(images[:, :1].flatten(1)[:, :5], shares)
    assert torch.allclose(loss, torch.nn.functional.cross_entropy(images[:, :1].flatten(1)[:, :5], labels, label_smoothing=0.2))


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_batch_stays_on_its_device_and_in_its_precision(name):
    mix = replace(STILL, smoothing=0.1, **{name: 1.0}).for_batches(5)
    images = torch.empty(4, 3, 8, 8, device="meta", dtype=torch.bfloat16)
    mixed, shares = mix(images, torch.empty(4, dtype=torch.long, device="meta"), seeded(0))
    assert mixed.device.type == shares.device.type == "meta" and mixed.dtype == shares.dtype == torch.bfloat16
    assert mixed.shape == (4, 3, 8, 8) and shares.shape == (4, 5)


def test_repeated_images_come_in_a_row_in_every_epoch_others():
    sampler = RepeatedSampler(12, repeats=3, seed=5)
    orders = []
    for epoch in range(40):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert len(order) == len(sampler) == 12
        assert all(len(set(order[i : i + 3])) == 1 for i in range(0, 12, 3)) and len(set(order)) == 4
        assert list(sampler) == order
        orders.append(tuple(order))
    assert len(set(orders)) > 30 and set().union(*orders) == set(range(12))
    assert list(RepeatedSampler(12, repeats=3, seed=6)) != list(orders[0])


@pytest.mark.parametrize(("count", "repeats"), [(10, 1), (10, 3), (2, 3), (0, 3)])
def test_an_epoch_is_as_long_as_there_are_images(count, repeats):
    order = list(Augmentation(repeats=repeats).order(count, seed=1))
    assert len(order) == count and set(order) <= set(range(count))
    assert len(set(order)) == -(-count // repeats)


def test_the_sampler_works_in_a_loader():
    loader = DataLoader(torch.arange(12), batch_size=6, sampler=PRESETS["deit"].order(12))
    for numbers in loader:
        assert sorted(numbers.unique(return_counts=True)[1].tolist()) == [3, 3]


def test_the_presets_have_the_numbers_of_the_papers():
    deit, a1, a2, a3 = (PRESETS[name] for name in ("deit", "a1", "a2", "a3"))
    assert (deit.magnitude, deit.deviation, deit.mixup, deit.cutmix) == (9, 0.5, 0.8, 1.0)
    assert (deit.erased, deit.smoothing, deit.repeats) == (0.25, 0.1, 3)
    assert [(preset.magnitude, preset.mixup, preset.smoothing, preset.repeats) for preset in (a1, a2, a3)] == [
        (7, 0.2, 0.1, 3),
        (7, 0.1, 0.0, 3),
        (6, 0.1, 0.0, 1),
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("area", (0.0, 1.0)), ("area", (0.5, 0.2)), ("area", (0.5, 1.2)), ("shape", (2.0, 1.0)), ("mirrored", 1.5),
        ("layers", -1), ("magnitude", 11.0), ("deviation", -0.5), ("applied", 2.0), ("jitter", -0.1), ("erased", 1.1),
        ("mixup", -1.0), ("cutmix", -1.0), ("smoothing", 1.5), ("repeats", 0),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_named(field, value):
    with pytest.raises(InputError, match=field):
        Augmentation(**{field: value})


def test_a_batch_needs_classes_and_an_order_repeats():
    with pytest.raises(InputError, match="num_classes=0"):
        PRESETS["light"].for_batches(0)
    with pytest.raises(InputError, match="repeats=0"):
        RepeatedSampler(4, repeats=0)
