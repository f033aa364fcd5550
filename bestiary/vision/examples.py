"""How a program of one's own uses exported nets of images: examples that stand in the README of an export, and run.

The first part makes `images` of a file, the second calls the graph and shows what it gives; `<mask>` is a further input.
"""

from __future__ import annotations

from bestiary.core.export.example import filled
from bestiary.vision.fits import SQUARES
from bestiary.vision.transforms import Preprocess

RAW = '''\
from PIL import Image, ImageOps

image = ImageOps.exif_transpose(Image.open("cat.jpg")).convert("RGB")
'''

FITTED = {
    "squash": '''\
image = image.resize((<scaled>, <scaled>), Image.Resampling.<INTERPOLATION>)
''',
    "crop": '''\
ratio = <scaled> / min(image.size)
image = image.resize([int(side * ratio + 1e-9) for side in image.size], Image.Resampling.<INTERPOLATION>)
''',
    "pad": '''\
ratio = <scaled> / max(image.size)
image = image.resize([max(1, round(side * ratio)) for side in image.size], Image.Resampling.<INTERPOLATION>)
''',
    "shortest": '''\
ratio = min(<size> / min(image.size), <longest> / max(image.size))
image = image.resize([round(side * ratio) for side in image.size], Image.Resampling.<INTERPOLATION>)
''',
    "multiple": '''\
ratio = min((<size> / side for side in image.size), key=lambda ratio: abs(1 - ratio))
sides = [max(1, round(side * ratio / <multiple>)) * <multiple> for side in image.size]
image = image.resize(sides, Image.Resampling.<INTERPOLATION>)
''',
}
FITTED["crop_floor"] = FITTED["crop"]
SQUARE = '''\
canvas = Image.new("RGB", (<size>, <size>), <fill>)
canvas.paste(image, [(<size> - side) // 2 for side in image.size])
image = canvas
'''
NORMALISED = '''\
images = (np.asarray(image, np.float32)[None] / 255 - np.array(<mean>, np.float32)) / np.array(<std>, np.float32)
images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
'''
AS_IT_IS = f"""\
{RAW}images = np.array(image)[None]
"""

CLASSES = '''\
(logits,) = model(images=images)
for index in logits[0].argsort()[:-6:-1]:
    print(settings["labels"][index])
'''
VECTORS = '''\
(vectors,) = model(images=images)
print(vectors)
'''
SEGMENTS = '''\
(logits,) = model(images=images)
print(logits.argmax(1))
'''
DEPTH = '''\
(depth,) = model(images=images)
print(depth)
'''
BOXES = '''\
logits, boxes = model(images=images<mask>)  # each box is its middle, width and height, as shares of the image
scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
for index in scores[0, :, :-1].max(-1).argsort()[:-6:-1]:
    print(settings["labels"][scores[0, index, :-1].argmax()], boxes[0, index])
'''


def fitted(preprocess: Preprocess, fit: str) -> str:
    """The lines that make of a file what the net sees."""
    lines = RAW + FITTED[fit] + (SQUARE if fit in SQUARES else "") + NORMALISED
    return filled(
        lines,
        size=preprocess.size,
        scaled=preprocess.scaled,
        longest=preprocess.longest or 'float("inf")',
        multiple=preprocess.multiple,
        INTERPOLATION=preprocess.interpolation.upper(),
        fill=preprocess.around,
        mean=list(preprocess.mean),
        std=list(preprocess.std),
    )
