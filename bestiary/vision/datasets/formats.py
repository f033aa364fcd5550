"""The files of well-known sets of images, in the form in which they were published: a function for each that makes their rows.

Pixels that come bare are kept as Netpbm images, a line with the size before them, which take no time to decode.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from bestiary.core.archives import check_all_there, members, read_members, unpack
from bestiary.core.generated import Source
from bestiary.core.tables import LABEL
from bestiary.errors import InputError
from bestiary.vision.datasets.scenes import scenes_of

IMAGE = "image"  # the column of images, as LABEL is that of classes

VERSION = 1  # grows when a function below makes other rows of the same files

Row = dict[str, Any]

COARSE = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables", "household_electrical_devices",
    "household_furniture", "insects", "large_carnivores", "large_man-made_outdoor_things", "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates", "people", "reptiles", "small_mammals",
    "trees", "vehicles_1", "vehicles_2",
)  # fmt: skip


class Format(NamedTuple):
    rows: Callable[[Source], Iterator[Row]]
    columns: Callable[[Any], Mapping[str, Any]]  # from the feature of a label to the features of all columns but the image


def bare(pixels: np.ndarray) -> Row:
    """An image of uint8 pixels, (h, w) or (h, w, 3), as it is kept."""
    height, width = pixels.shape[:2]
    return {"path": None, "bytes": b"P%d %d %d 255\n" % (5 if pixels.ndim == 2 else 6, width, height) + pixels.tobytes()}


def idx(source: Source) -> Iterator[Row]:
    """MNIST and its kin: a file of images and one of labels, each packed by gzip, in a zip where `members` are given."""
    images, labels = _idx_pair(source)
    return ({IMAGE: bare(pixels), LABEL: int(label)} for pixels, label in zip(images, labels, strict=True))


def idx_columns(source: Source) -> Iterator[Row]:
    """EMNIST: the same, with the pixels laid down column by column."""
    images, labels = _idx_pair(source)
    return ({IMAGE: bare(pixels.T), LABEL: int(label)} for pixels, label in zip(images, labels, strict=True))


def cifar_10(source: Source) -> Iterator[Row]:
    for (label,), pixels in _cifar(source, labels=1):
        yield {IMAGE: bare(pixels), LABEL: int(label)}


def cifar_100(source: Source) -> Iterator[Row]:
    for (coarse, fine), pixels in _cifar(source, labels=2):
        yield {IMAGE: bare(pixels), LABEL: int(fine), "coarse_label": int(coarse)}


def flowers(source: Source) -> Iterator[Row]:
    """Oxford's Flowers: numbers of images and labels in two MATLAB files, and an archive of photos."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise InputError("its labels are read by scipy, which is not installed\npip install 'bestiary[images]'") from None
    numbers, labels, photos = source.paths
    kinds = loadmat(labels)["labels"].ravel()
    chosen = {f"jpg/image_{number:05d}.jpg": int(kinds[number - 1]) - 1 for number in loadmat(numbers)[source.members[0]].ravel()}
    for name, content in _chosen(photos, chosen):
        yield {IMAGE: content, LABEL: chosen[name]}


def pets(source: Source) -> Iterator[Row]:
    """Oxford-IIIT Pet: lines `name class species breed`, and an archive of photos."""
    annotations, photos = source.paths
    listing = read_members(annotations, source.members)[source.members[0]].decode()
    lines = [line.split() for line in listing.splitlines() if line and not line.startswith("#")]
    chosen = {f"images/{name}.jpg": (int(kind) - 1, int(species) - 1) for name, kind, species, _ in lines}
    for name, content in _chosen(photos, chosen):
        label, species = chosen[name]
        yield {IMAGE: content, LABEL: label, "species": species}


def coco(source: Source) -> Iterator[Row]:
    """COCO: boxes (left, top, right, bottom) in pixels and the class of each; a crowd is one box around many."""
    annotations, photos = source.paths
    told = json.loads(read_members(annotations, source.members)[source.members[0]])
    numbers = {kind["id"]: number for number, kind in enumerate(sorted(told["categories"], key=lambda kind: kind["id"]))}
    chosen = {scene.file: scene for scene in scenes_of(told)}
    del told  # gigabytes, for the training set
    for name, content in _chosen(photos, chosen, key=lambda name: name.rpartition("/")[2]):
        yield {IMAGE: content, **chosen[name].columns(numbers)}


def digits(source: Source) -> Iterator[Row]:
    """scikit-learn's digits: 64 grey levels from 0 to 16 and the digit in each line; the last fifth is `test`."""
    with open(source.paths[0], "rb") as file:
        table = np.loadtxt(io.BytesIO(unpack(file, source.paths[0])), delimiter=",", dtype=np.int64)
    first = len(table) * 4 // 5
    for line in table[:first] if source.split == "train" else table[first:]:
        yield {IMAGE: bare((line[:64].reshape(8, 8) * 255 / 16).round().astype(np.uint8)), LABEL: int(line[64])}


def read_idx(content: bytes, name: str) -> np.ndarray:
    """The uint8 array in an idx file: two zeros, the kind of number, how many dimensions, each as a big-endian int32, the rest.

    Raises InputError where it is none.
    """
    dimensions = content[3] if len(content) > 3 else 0
    head = 4 + 4 * dimensions
    shape = tuple(int(size) for size in np.frombuffer(content[4:head], ">u4", count=len(content[4:head]) // 4))
    if content[:3] != b"\0\0\x08" or len(shape) != dimensions or len(content) != head + int(np.prod(shape, dtype=object)):
        raise InputError(f"{name} is not an idx file of bytes\nget it again from where it was published")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _idx_pair(source: Source) -> tuple[np.ndarray, np.ndarray]:
    names = source.members or source.paths
    if source.members:
        packed = read_members(source.paths[0], names)
        images, labels = (read_idx(unpack(io.BytesIO(packed[name]), name), name) for name in names)
    else:
        images, labels = (read_idx(_unpack_file(path), path) for path in names)
    if images.ndim != 3 or len(images) != len(labels):
        raise InputError(f"{names[0]} holds {images.shape}, {names[1]} {labels.shape}\nget both from where they were published")
    return images, labels


def _unpack_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return unpack(file, path)


def _cifar(source: Source, labels: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The records of CIFAR's binary version: labels, then 32 × 32 of red, of green, of blue."""
    contents = read_members(source.paths[0], source.members)
    for name in source.members:
        if len(contents[name]) % (labels + 3072):
            raise InputError(f"{name} is not a file of CIFAR images\nget its archive again from where it was published")
        for record in np.frombuffer(contents[name], np.uint8).reshape(-1, labels + 3072):
            yield record[:labels], record[labels:].reshape(3, 32, 32).transpose(1, 2, 0)  # (h, w, 3)


def _chosen(
    path: str, chosen: Mapping[str, Any], key: Callable[[str], str] = lambda name: name
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The images of an archive that are chosen, in its order, by what `key` makes of their names."""
    found = set()
    for name, read in members(path):
        if (short := key(name)) in chosen:
            found.add(short)
            yield short, {"path": name, "bytes": read()}
    check_all_there(path, chosen, found)


def _labelled(label: Any) -> Mapping[str, Any]:
    return {LABEL: label}


def _cifar_100_columns(label: Any) -> Mapping[str, Any]:
    from datasets import ClassLabel

    return {LABEL: label, "coarse_label": ClassLabel(names=list(COARSE))}


def _pets_columns(label: Any) -> Mapping[str, Any]:
    from datasets import ClassLabel

    return {LABEL: label, "species": ClassLabel(names=["cat", "dog"])}


def scene_columns(label: Any) -> Mapping[str, Any]:
    """The columns of `Scene.columns`."""
    from datasets import List, Value

    return {"id": Value("int64"), "boxes": List(List(Value("float32"))), "labels": List(label), "crowd": List(Value("bool"))}


FORMATS = {
    "idx": Format(idx, _labelled),
    "idx-columns": Format(idx_columns, _labelled),
    "cifar-10": Format(cifar_10, _labelled),
    "cifar-100": Format(cifar_100, _cifar_100_columns),
    "flowers": Format(flowers, _labelled),
    "pets": Format(pets, _pets_columns),
    "coco": Format(coco, scene_columns),
    "digits": Format(digits, _labelled),
}
