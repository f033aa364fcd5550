"""What a person has as an image, to pixels."""

from __future__ import annotations

import threading
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from bestiary.errors import InputError
from bestiary.hub.inputs import Kind, opened

KIND = Kind("image", "a PIL image, an array or a tensor", 100_000_000)

_ONE_AT_A_TIME = threading.Lock()  # a batch may hold a PIL image twice, which no two threads may load at once


def read_image(image: Any, name: str = "the image") -> Image.Image:
    """An RGB image of 8 bits a colour, the right way up, of whatever holds one.

    A path; an https address; the bytes of a file; a PIL image; an array (h, w) or (h, w, colours); a tensor (h, w) or
    (colours, h, w). Arrays and tensors hold uint8, uint16, or floats from 0 to 1. A photo is turned as its EXIF orientation
    says, grey becomes three equal colours, 16 bits become 8, and transparency is dropped. `name` is what errors call it.

    Raises InputError for what is not an image, OfflineError or SourceError for an address that cannot be fetched.
    """
    if isinstance(image, Image.Image):
        with _ONE_AT_A_TIME:
            rgb = _to_rgb(image, name)
            return rgb.copy() if rgb is image else rgb
    if isinstance(image, Tensor):
        return _from_tensor(image, name)
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
    file, name = opened(image, name, KIND)
    with file, _decoded(file, name) as found:
        return _to_rgb(found, name)


def read_pixels(image: Any, name: str = "the image") -> Tensor:
    """The pixels of `read_image`, uint8 (3, h, w), the colours of a pixel side by side.

    >>> read_pixels(np.zeros((30, 40), np.uint8)).shape
    torch.Size([3, 30, 40])
    """
    return torch.from_numpy(np.array(read_image(image, name))).permute(2, 0, 1)


def _decoded(file: BinaryIO, name: str) -> Image.Image:
    """The image in a file, of which only the head has been read yet."""
    try:
        return Image.open(file)
    except Image.DecompressionBombError:
        raise InputError(f"{name} has more pixels than are safe to read\nmake it smaller first") from None
    except Exception as error:  # each format raises what it likes on broken files
        raise InputError(f"{name} is not an image that can be read\ngive a JPEG, PNG, WebP, or what else Pillow reads") from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """The image as `read_image` gives it: itself, where there is nothing to do but to decode it."""
    if 0 in image.size:
        raise InputError(f"{name} has {image.width} × {image.height} pixels, which show nothing\ngive an image of at least one")
    try:
        image.load()  # first: some formats say how they lie only behind the pixels, and TIFF is turned by this already
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        if image.mode == "RGB":
            return image
        if image.mode == "P" and image.has_transparency_data:
            image = image.convert("RGBA")  # the same colours, without a warning
        if not (image.mode.startswith("I") or image.mode == "F"):  # one colour of more than 8 bits
            return image.convert("RGB")
        pixels = np.asarray(image)
    except Exception as error:  # each format raises what it likes on broken files
        raise InputError(f"{name} is a damaged image: {str(error)[:100]}\nget it again from where it came") from error
    return _from_array(pixels if image.mode == "F" else pixels.clip(0, 65535).astype(np.uint16), name)


def _from_tensor(tensor: Tensor, name: str) -> Image.Image:
    if tensor.dim() != 2 and not (tensor.dim() == 3 and tensor.shape[0] in (1, 3, 4)):
        raise InputError(
            f"{name} has the shape {tuple(tensor.shape)}\ngive a tensor (h, w) or (colours, h, w) of 1, 3 or 4 colours"
        )
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:  # which numpy does not know
        tensor = tensor.float()
    return _from_array((tensor if tensor.dim() == 2 else tensor.permute(1, 2, 0)).numpy(), name)


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.size == 0 or (array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        raise InputError(f"{name} has the shape {array.shape}\ngive an array (h, w) or (h, w, colours) of 1, 3 or 4 colours")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(_to_eight_bits(array, name))).convert("RGB")


def _to_eight_bits(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{name} holds {array.dtype}\ngive uint8, uint16, or floats from 0 to 1")
    if not (array.min() >= 0 and array.max() <= 1):  # false for NaN, too
        raise InputError(f"{name} holds floats from {array.min():g} to {array.max():g}\ngive 0 to 1, not yet normalised")
    return (array * 255).round().astype(np.uint8)
