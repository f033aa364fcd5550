"""What transformers puts beside the weights of a net of images: preprocessor_config.json."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bestiary.core.architecture import Description
from bestiary.core.configclasses import named_classes, names_of_classes
from bestiary.core.configmap import Fields, read_json
from bestiary.errors import LayoutError
from bestiary.vision.labels import given_by
from bestiary.vision.square import side

FILE = "preprocessor_config.json"
RESAMPLING = {"lanczos": 1, "bilinear": 2, "bicubic": 3}  # Pillow's numbers
STEPS = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}  # taken for granted
COLOURS = {"mean": "image_mean", "std": "image_std"}  # our keys of a preprocessing, and theirs
# fmt: off
# Bookkeeping, how a tensor is handed over, and what is done to the maps of classes that a net is trained with.
_HARMLESS = frozenset([
    "image_processor_type", "feature_extractor_type", "processor_class", "_valid_processor_keys", "do_convert_rgb",
    "data_format", "input_data_format", "default_to_square", "device", "return_tensors", "disable_grouping",
    "do_reduce_labels", "reduce_labels",
])
# fmt: on


def read_processor(folder: Path) -> Fields:
    """What the file says; null is as good as nothing. Raises LayoutError."""
    return {key: value for key, value in read_json(folder / FILE).items() if value is not None}


def check_known(said: Mapping[str, Any], known: Collection[str], fixed: Mapping[str, Any], folder: Path) -> None:
    """Raise LayoutError, naming the key, for what images are not prepared with here: unknown, or other than `fixed`."""
    for key, value in said.items():
        if (key in fixed and value != fixed[key]) or not (key in fixed or key in known or key in _HARMLESS):
            raise LayoutError(
                f"{folder / FILE} has {key}: {value!r}, which images are not prepared with here\n"
                "this variant is not in the zoo; remove the key only if you know that it changes nothing"
            )


def resampling(resample: Any, folder: Path) -> Fields:
    """Our keys for a number of Pillow; transformers resizes by torch whatever that can. Raises LayoutError."""
    names = [name for name, number in RESAMPLING.items() if number == resample]
    if not names:
        raise LayoutError(f"{folder / FILE} has resample: {resample!r}\nthe zoo has {RESAMPLING}")
    return {"interpolation": names[0], "resampler": "pillow" if names == ["lanczos"] else "torch"}


def edges(size: Any) -> Mapping[str, Any]:
    """A size by the names of its sides; a number, as older files give it, is that of both."""
    return size if isinstance(size, Mapping) else {"height": size, "width": size}


def config_with_names(config: Mapping[str, Any], card: Any) -> Fields:
    """A config.json and the names of the classes, where the card gives them."""
    names = given_by(card)
    return {**config, **(named_classes(names) if names else {})}


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

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        said, keys = read_processor(folder), {**COLOURS, **self.keys}
        check_known(said, {*self.defaults, *keys.values()}, {**STEPS, **self.fixed}, folder)
        given = {**self.defaults, **said}
        return Description(
            task=self.task,
            preprocess={
                "fit": self.fit,
                **self.sizes(given, folder),
                **resampling(given["resample"], folder),
                **{ours: given[theirs] for ours, theirs in keys.items()},
            },
            labels=names_of_classes(config),
            files={},
        )

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        if (fit := card.preprocess.get("fit", "crop")) != self.fit:
            raise LayoutError(f"a {self.processor} cannot say fit: {fit}\nit says {self.fit}")
        processor = {
            "image_processor_type": self.processor,
            **STEPS,
            **self.fixed,
            "size": self.size(card.preprocess),
            "resample": RESAMPLING[card.preprocess["interpolation"]],
            **{theirs: card.preprocess[ours] for ours, theirs in {**COLOURS, **self.keys}.items()},
        }
        return {"config.json": config_with_names(config, card), FILE: processor}

    def sizes(self, given: Mapping[str, Any], folder: Path) -> Fields:
        """Our keys for the size that the file says."""
        if set(edges(given["size"])) != {"height", "width"}:
            raise LayoutError(f"{folder / FILE} has size: {given['size']!r}\nthe zoo takes a height and a width here")
        return {"size": side(given["size"], f"{folder / FILE} has size")}

    def size(self, preprocess: Mapping[str, Any]) -> Fields:
        """The size as the file says it."""
        return dict.fromkeys(("height", "width"), preprocess["size"])
