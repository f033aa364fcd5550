"""Images to labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast

import torch
from PIL import Image
from torch import Tensor

from bestiary.core.labels import LABELLED, Label, check_top, label_report, labelled, ranked
from bestiary.core.runtime import for_inference
from bestiary.core.task import Report
from bestiary.errors import InputError
from bestiary.vision.backbone import Backbone
from bestiary.vision.drawing import draw_labels
from bestiary.vision.labels import labels_of
from bestiary.vision.tasks.embedding import ImageEmbedder
from bestiary.vision.tasks.images import KNOWN_LENGTH, Errors, ImageTask, is_one

if TYPE_CHECKING:
    from bestiary.vision.explain import Explanation


class Labels(list[Label]):
    """The labels of an image, best first: a list of Label that can draw itself."""

    def __init__(self, labels: Iterable[Label], image: Any):
        super().__init__(labels)
        self.image = image  # as it was given

    def plot(self) -> Image.Image:
        """The image with its labels and their scores below. Raises InputError where the image can no longer be read."""
        return draw_labels(self.image, self)


class ImageClassifier(ImageTask):
    """Images to labels.

    >>> import bestiary
    >>> classify = bestiary.load("efficientnet-lite0")
    >>> classify("cat.jpg", top=1)[0].name
    'tiger cat'
    >>> classify("cat.jpg").plot().width
    451
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.labels = labels_of(self.card, self.net.config)

    def replace_head(self, labels: Sequence[str]) -> None:
        """A new head with random weights for classes of these names, to be trained; the card that `save` writes names them.

        Raises InputError for names that are none, or one twice.

        >>> import bestiary
        >>> classify = bestiary.load("efficientnet-lite0")
        >>> classify.replace_head(["cat", "dog"])
        >>> len(classify("cat.jpg"))
        2
        """
        if isinstance(labels, str) or not all(isinstance(label, str) for label in labels) or len({*labels}) < len(labels):
            raise InputError("labels are the names of classes, each another\ngive a list of different strings")
        cast(Backbone, self.net).replace_head(len(labels))
        self.labels = tuple(labels)
        self.card = replace(self.card, labels=self.labels, precision={}, metrics=())

    def __call__(self, images: Any, *, top: int = 5, batch_size: int | None = None, errors: Errors = "raise") -> Any:
        """The `top` most likely labels, best first: `Labels`, a list of Label, for one image, a list of these for a list.

        An image is a path, an https address, bytes, a PIL image, an array (h, w, colours) or a tensor (colours, h, w); a
        fourth dimension in front makes a list of them. An iterator is answered by an iterator that reads `batch_size` images
        at a time. Raises InputError, and for an address OfflineError or SourceError; with errors="skip" the answer for an
        image that cannot be read is None, and a warning names it.
        """
        check_top(top)

        def answer(batch: list[Any], first: int) -> list[list[Label]]:
            logits = self.compute(self.preprocess(batch, first)).float()
            return ranked(logits.softmax(-1), self.labels, top)

        return self.answered(images, answer, batch_size=batch_size, errors=errors, result=Labels)

    def features(self, images: Any, *, batch_size: int | None = None) -> Any:
        """Feature maps, fp32, on the CPU: (channels, h, w) for one image, (n, channels, h, w) for a list."""

        def answer(batch: list[Any], first: int) -> Tensor:
            return self.compute(self.preprocess(batch, first), "features").float().cpu()

        maps = self.answered(images, answer, batch_size=batch_size)
        if is_one(images) or not isinstance(images, KNOWN_LENGTH):
            return maps
        return torch.stack(maps) if maps else answer([], 0)

    def explain(self, image: Any, label: str | None = None) -> Explanation:
        """How much each part of an image counts for a label, by default for the one that the model answers with.

        Nets of maps are explained by Grad-CAM; a Vision Transformer by attention rollout, which shows where it looks, whatever
        the label. Raises InputError for a label that the model does not know, and for one given to a Vision Transformer.

        >>> import bestiary
        >>> explanation = bestiary.load("efficientnet-lite0").explain("cat.jpg")
        >>> explanation.label.name, explanation.values.shape
        ('tiger cat', torch.Size([300, 451]))
        """
        from bestiary.vision import explain  # which takes more to import than classifying needs

        pixels, place = self.preprocess.seen(image)
        batch = self.preprocess.normalize(pixels[None])
        scores = self.compute(batch)[0].float().softmax(-1)
        index = int(scores.argmax()) if label is None else self._index(label)
        weight, net = next(self.net.parameters()), cast(Backbone, for_inference(self.net))
        batch = batch.to(weight.device, weight.dtype)
        if label is not None and not explain.hangs_on_the_class(net):
            raise InputError("where a Vision Transformer looks does not hang on the label\nleave label out")
        heat = explain.heat_of(net, batch, index)
        return explain.Explanation(explain.on_image(heat[0], place).cpu(), Label(self.labels[index], scores[index].item()), image)

    def _index(self, label: str) -> int:
        if label not in self.labels:
            near = ", ".join(get_close_matches(str(label), self.labels)) or ", ".join(self.labels[:3])
            raise InputError(f"{self.card.name} has no label {label!r}\nit has {len(self.labels)}, such as {near}")
        return self.labels.index(label)

    def embedder(self) -> ImageEmbedder:
        """The same net, sharing its weights, as a task that gives vectors and searches by them; saved, it is loaded as such."""
        return ImageEmbedder(self.net, replace(self.card, task="image-embedding"), self.provenance, self._saver)

    def returns(self) -> Mapping[str, Any]:
        return LABELLED

    def record(self, result: Labels) -> Mapping[str, Any]:
        return labelled(result)

    def report(self, inputs: Sequence[str]) -> Report:
        return label_report("image", inputs, self(list(inputs)))
