"""What transformers puts beside the weights of a net of images: the names of the classes, and preprocessor_config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bestiary.core.architecture import Description
from bestiary.core.configmap import Fields, read_json
from bestiary.errors import LayoutError
from bestiary.vision import labels

FILE = "preprocessor_config.json"
RESAMPLING = {"lanczos": 1, "bilinear": 2, "bicubic": 3}  # Pillow's numbers

# Bookkeeping, and what is done to the maps of classes that a net is trained with.
_HARMLESS = frozenset(
    {"image_processor_type", "feature_extractor_type", "processor_class", "_valid_processor_keys"}
    | {"do_reduce_labels", "reduce_labels"}
)


class Classes:
    """The part of a config.json that counts and names the classes."""

    keys = ("id2label", "label2id", "num_labels")

    def read(self, published: Mapping[str, Any]) -> Fields:
        return {"num_classes": len(published.get("id2label") or ()) or published.get("num_labels", 2)}

    def write(self, config: Any) -> Fields:
        return named_classes([f"LABEL_{index}" for index in range(config.num_classes)])


def named_classes(names: Any) -> Fields:
    """The keys of a config.json that name the classes."""
    return {
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }


@dataclass(kw_only=True)
class ProcessorFolder:
    """A folder of transformers whose image processor is of one kind.

    `keys` are those of our preprocessing with their names there, `fixed` those whose value the zoo takes for granted; what a
    file leaves unsaid is as `defaults` say.
    """

    task: str
    processor: str  # the class of transformers
    fit: str
    defaults: Mapping[str, Any]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    companions: tuple[str, ...] = (FILE,)

    @property
    def same(self) -> Mapping[str, str]:
        return {"mean": "image_mean", "std": "image_std", **self.keys}

    @property
    def certain(self) -> Mapping[str, Any]:
        steps = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
        return {**steps, **self.fixed}

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        given = {**self.certain, **self.defaults, **read_json(folder / FILE)}
        known = {*self.certain, *self.defaults, *self.same.values(), *_HARMLESS}
        for key, value in given.items():
            if key not in known or value != self.certain.get(key, value):
                raise LayoutError(
                    f"{folder / FILE} has {key}: {value!r}, which {self.task} is not computed with here\n"
                    "this variant is not in the zoo; remove the key only if you know that it changes nothing"
                )
        names = config.get("id2label")
        return Description(
            task=self.task,
            preprocess={
                "fit": self.fit,
                **self.sizes(given, folder),
                "interpolation": next(name for name, number in RESAMPLING.items() if number == given["resample"]),
                **{ours: given[theirs] for ours, theirs in self.same.items()},
            },
            labels=tuple(names[index] for index in sorted(names, key=int)) if names else None,
            files={},
        )

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        if (fit := card.preprocess.get("fit", "crop")) != self.fit:
            raise LayoutError(f"a {self.processor} cannot say fit: {fit}\nit says {self.fit}")
        names = labels.names(card.labels) if isinstance(card.labels, str) else card.labels
        processor = {
            "image_processor_type": self.processor,
            **self.certain,
            "size": self.size(card.preprocess),
            "resample": RESAMPLING[card.preprocess["interpolation"]],
            **{theirs: card.preprocess[ours] for ours, theirs in self.same.items()},
        }
        return {"config.json": {**config, **(named_classes(names) if names else {})}, FILE: processor}

    def sizes(self, given: Mapping[str, Any], folder: Path) -> Fields:
        """Our keys for the size that the file says."""
        return {"size": _side(given["size"], folder)}

    def size(self, preprocess: Mapping[str, Any]) -> Fields:
        """The size as the file says it."""
        return dict.fromkeys(("height", "width"), preprocess["size"])


def _side(size: Any, folder: Path) -> int:
    """The side of a square, which older files give as a number."""
    sides = set(size.values()) if isinstance(size, Mapping) else {size}
    if (isinstance(size, Mapping) and set(size) != {"height", "width"}) or len(sides) != 1:
        raise LayoutError(f"{folder / FILE} has size: {size!r}\nthe zoo takes a height and a width, which are equal")
    side: int = sides.pop()
    return side
