"""Images with boxes around what is in them, as COCO's files tell it; and folders of one's own that hold such files.

    my-scenes/
      train/  _annotations.coco.json  1.jpg  2.jpg      as Roboflow exports them; or annotations.json, beside its images or
      valid/  _annotations.coco.json  3.jpg             above a folder of them that is called images
    my-scenes/
      annotations/  instances_train2017.json  instances_val2017.json      as COCO itself has them
      train2017/  1.jpg  2.jpg                                            or in images/train2017, or in images
      val2017/    3.jpg
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from bestiary.core import tables
from bestiary.errors import InputError

NAMES = ("_annotations.coco.json", "annotations.json", "instances_*.json")
REACH = 1.0  # pixels that a box may reach over an edge, as roundings make it


class Scene(NamedTuple):
    """An image and what is in it, as its file tells."""

    file: str
    number: int
    width: float | None  # in pixels, where the file tells it
    height: float | None
    boxes: list[list[float]]  # left, top, right, bottom, in pixels
    categories: list[int]  # of each box, as the file numbers them
    crowd: list[bool]  # whether a box is one around many

    def columns(self, classes: Mapping[int, int]) -> dict[str, Any]:
        """Its row but for the image; `classes` gives the number of each category."""
        labels = [classes[category] for category in self.categories]
        return {"id": self.number, "boxes": self.boxes, "labels": labels, "crowd": self.crowd}


def scenes_of(told: Mapping[str, Any]) -> list[Scene]:
    """The scenes of a file, in its order. Raises KeyError, TypeError or ValueError for one of another form."""
    objects: dict[int, list[Any]] = {image["id"]: [] for image in told["images"]}
    for one in told["annotations"]:
        if one["image_id"] not in objects:
            raise ValueError(f"something is in image {one['image_id']}, which it does not list")
        objects[one["image_id"]].append(one)
    return [_scene(image, objects[image["id"]]) for image in told["images"]]


def _scene(image: Mapping[str, Any], objects: Sequence[Mapping[str, Any]]) -> Scene:
    told = (map(float, one["bbox"]) for one in objects)
    corners = ([left, top, left + width, top + height] for left, top, width, height in told)
    categories, crowd = [one["category_id"] for one in objects], [bool(one.get("iscrowd", 0)) for one in objects]
    return Scene(image["file_name"], image["id"], image.get("width"), image.get("height"), list(corners), categories, crowd)


class Annotated(NamedTuple):
    """The scenes of one split of a folder, whose images were found and whose boxes make sense."""

    images: list[str]  # whole paths
    columns: list[dict[str, Any]]  # of each image, what else is in its row
    classes: tuple[str, ...]  # the same in all splits


def annotations_in(names: Sequence[str], whose: str) -> dict[str, str]:
    """The files of annotations among the names of files in a folder, by split; `train` where no name tells one.

    >>> annotations_in(["valid/_annotations.coco.json", "valid/1.jpg", "train/_annotations.coco.json"], "scenes")
    {'validation': 'valid/_annotations.coco.json', 'train': 'train/_annotations.coco.json'}

    Raises InputError for several of one split.
    """
    found = [name for name in names if any(fnmatch(PurePosixPath(name).name, wanted) for wanted in NAMES)]
    told = [name for name in found if tables.split_of(name)] or found
    splits: dict[str, str] = {}
    for name in told:
        split = tables.split_of(name) or "train"
        if split in splits:
            raise InputError(f"{whose} has several files of annotations for {split}: {splits[split]}, {name}\nleave one of them")
        splits[split] = name
    return splits


def read_annotated(folder: str, names: Sequence[str], splits: Mapping[str, str], split: str, whose: str) -> Annotated:
    """The scenes of a split; `names` are the files in the folder, `splits` those of annotations.

    Raises UnknownSplit, and InputError, naming file and image: for an image that is not there, for a box without area or that
    reaches over the edges of its image, for a category that the file does not list, and where splits list other classes.
    """
    path = os.path.join(folder, tables.pick_split(splits, split, whose))
    told = _read(path)
    paths = [os.path.join(folder, name) for name in splits.values()]
    kinds = {other: _told(path, told) if other == path else _categories(other, os.stat(other).st_mtime_ns) for other in paths}
    classes = _same_classes(kinds)
    numbers = {name: number for number, name in enumerate(classes)}
    known = {kind["id"]: numbers[kind["name"]] for kind in told["categories"] if kind["name"] in numbers}
    scenes = [_checked(scene, known, path) for scene in _scenes_in(path, told)]
    images, there = [], set(names)
    inside = _folder_of(scenes[0].file, splits[split], there, path)
    for scene in scenes:
        image = _joined(inside, scene.file)
        if image not in there:
            raise InputError(f"{path}: its image {scene.file[:200]!r} is not in {os.path.join(folder, inside)}\nput it there")
        images.append(os.path.join(folder, image))
    return Annotated(images, [scene.columns(known) for scene in scenes], classes)


def _same_classes(kinds: Mapping[str, Categories]) -> tuple[str, ...]:
    """The classes that all files list, in the order of their numbers in the first.

    What other categories call the one above them, and no box is of, is no class: Roboflow lists one for the whole data set.
    """
    paths = list(kinds)
    used = set().union(*(used for _, used in kinds.values()))
    above = {kind.above for listed, _ in kinds.values() for kind in listed if kind.above != kind.name}
    groups = above - used
    first, *others = ([kind.name for kind in listed if kind.name not in groups] for listed, _ in kinds.values())
    for path, names in zip(paths[1:], others, strict=True):
        if lacking := sorted({*first} ^ {*names}):
            raise InputError(f"of {paths[0]} and {path} only one lists the category {lacking[0]!r}\nlist the same in both")
    return tuple(first)


class Category(NamedTuple):
    number: int
    name: str
    above: str | None  # what it is one of


Categories = tuple[list[Category], set[str]]  # those of a file, by their numbers, and the names of those that boxes are of


@lru_cache(maxsize=16)
def _categories(path: str, time: int) -> Categories:
    """The categories of a file that was changed at that time."""
    return _told(path, _read(path))


def _told(path: str, told: Mapping[str, Any]) -> Categories:
    try:
        listed = sorted(Category(kind["id"], kind["name"], kind.get("supercategory")) for kind in told["categories"])
        numbers = {one["category_id"] for one in told["annotations"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise _other_form(path, error) from None
    names = [kind.name for kind in listed]
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise InputError(f"{path} lists the category {twice[0]!r} twice\ngive each a name of its own")
    return listed, {kind.name for kind in listed if kind.number in numbers}


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            told: dict[str, Any] = json.load(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {str(error)[:100]}\nexport it again") from None
    return told


def _scenes_in(path: str, told: Mapping[str, Any]) -> list[Scene]:
    try:
        scenes = scenes_of(told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _other_form(path, error) from None
    if not scenes:
        raise InputError(f"{path} lists no images\ngive a file that does")
    return scenes


def _other_form(path: str, error: Exception) -> InputError:
    what = f"it has no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)[:100]
    wanted = "images (id, file_name, width, height), annotations (image_id, category_id, bbox) and categories (id, name)"
    return InputError(f"{path} is not in the form of COCO: {what}\nwanted: {wanted}")


def _checked(scene: Scene, known: Mapping[int, int], path: str) -> Scene:
    """The scene, its boxes cut at the edges of the image."""
    size = (scene.width, scene.height)
    if not all(isinstance(side, (int, float)) and side > 0 for side in size):
        raise InputError(f"{path}: {scene.file} has the width {size[0]} and the height {size[1]}\ngive both, in pixels")
    if unknown := [category for category in scene.categories if category not in known]:
        raise InputError(f"{path}: {scene.file} shows something of category {unknown[0]}\nlist it in the categories of the file")
    return scene._replace(boxes=[list(_cut(box, size, f"{path}: {scene.file}")) for box in scene.boxes])


def _cut(box: Sequence[float], size: Any, whose: str) -> Iterator[float]:
    shown = ", ".join(f"{side:g}" for side in box)
    if not all(map(math.isfinite, box)) or box[0] >= box[2] or box[1] >= box[3]:
        raise InputError(f"{whose} has a box without area, from left to bottom {shown}\nmend it, or leave it out")
    if min(box) < -REACH or box[2] > size[0] + REACH or box[3] > size[1] + REACH:
        pixels = f"{size[0]} × {size[1]} pixels"
        raise InputError(f"{whose} of {pixels} has a box that reaches out of it, from left to bottom {shown}\nmend it")
    for side, most in zip(box, (*size, *size), strict=True):
        yield float(min(max(side, 0), most))


def _folder_of(image: str, annotations: str, there: set[str], path: str) -> str:
    """The folder that an image of a file of annotations lies in: near that file, called as it is, or `images`."""
    parent, name = PurePosixPath(annotations).parent, PurePosixPath(annotations).stem.removeprefix("instances_")
    for place in (parent, parent.parent):
        for inside in (name, f"images/{name}", "images", "."):
            if _joined(str(place / inside), image) in there:
                return str(place / inside)
    raise InputError(f"{path}: its image {image[:200]!r} is not there\nput its images beside it, or in a folder {name} or images")


def _joined(folder: str, image: str) -> str:
    return os.path.normpath(os.path.join(folder, image)).replace(os.sep, "/")
