"""Whatever a person has as an image becomes the same pixels, or a message that names it."""

import io
import struct
import threading
import warnings
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bestiary
from bestiary.errors import InputError, OfflineError, SourceError
from bestiary.vision import images
from bestiary.vision.images import read_image, read_pixels

PHOTO = Path(bestiary.__file__).parent.parent / "scripts" / "chelsea.jpg"
PIXELS = np.asarray(Image.open(PHOTO))  # (300, 451, 3)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels_of(image):
    read = read_image(image)
    assert read.mode == "RGB"
    return np.asarray(read)


@pytest.mark.parametrize(
    "image",
    [
        str(PHOTO), PHOTO, PHOTO.read_bytes(), bytearray(PHOTO.read_bytes()), memoryview(PHOTO.read_bytes()),
        Image.open(PHOTO), PIXELS, torch.tensor(PIXELS).permute(2, 0, 1),
        PIXELS / 255, PIXELS.astype(np.float16) / 255, torch.tensor(PIXELS).permute(2, 0, 1) / 255,
        PIXELS.astype(np.uint16) * 257, np.dstack([PIXELS, PIXELS[..., 0]]), PIXELS[::-1][::-1],
    ],
    ids=lambda image: type(image).__name__,
)  # fmt: skip
def test_every_form_of_a_photo_gives_its_pixels(image):
    assert np.array_equal(pixels_of(image), PIXELS)


def test_bfloat16_has_few_digits_but_is_an_image():
    assert abs(pixels_of((torch.tensor(PIXELS).permute(2, 0, 1) / 255).bfloat16()).astype(int) - PIXELS).max() <= 1


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1)])
def test_grey_becomes_three_equal_colours(shape):
    grey = np.arange(24, dtype=np.uint8).reshape(shape)
    expected = np.repeat(grey.reshape(4, 6, 1), 3, axis=2)
    assert np.array_equal(pixels_of(grey), expected)
    assert np.array_equal(pixels_of(torch.tensor(grey.reshape(4, 6))), expected)
    assert np.array_equal(pixels_of(encoded(Image.fromarray(grey.reshape(4, 6)))), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "YCbCr", "1", "L"])
def test_every_mode_is_converted_as_pillow_does(mode):
    image = Image.open(PHOTO).convert(mode)
    assert np.array_equal(pixels_of(image), np.asarray(image.convert("RGB")))


def test_transparency_is_dropped_and_the_colours_below_it_are_kept():
    image = Image.fromarray(np.dstack([PIXELS, np.zeros(PIXELS.shape[:2], np.uint8)]))
    assert np.array_equal(pixels_of(encoded(image)), PIXELS)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_may_hold_transparent_colours(kind):
    """One, or an opacity for each, which Pillow warns about unless it is asked for the opacity, too."""
    photo = Image.open(PHOTO).quantize(64)
    for transparency in (3, bytes(range(64))) if kind == "PNG" else (3,):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read = pixels_of(encoded(photo, kind, transparency=transparency))
        assert np.array_equal(read, np.asarray(photo.convert("RGB")))


def test_of_an_animation_the_first_picture_is_read():
    first, second = (Image.open(PHOTO).quantize(32).rotate(angle) for angle in (0, 180))
    moving = encoded(first, "GIF", save_all=True, append_images=[second], duration=40)
    assert Image.open(io.BytesIO(moving)).n_frames == 2
    assert np.array_equal(pixels_of(moving), np.asarray(first.convert("RGB")))


def test_a_cmyk_photo_has_the_colours_of_the_screen():
    """As printers and Adobe's programs write them, with the values the other way round."""
    printed = Image.open(PHOTO).convert("CMYK")
    read = pixels_of(encoded(printed, "JPEG", quality=95))
    assert abs(read.astype(int) - PIXELS).mean() < 3


def png(width, height, depth, colours, rows):
    """A PNG written by hand, as Pillow writes none of 16 bits for each of several colours, nor a false size."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("kind", "count"), [(0, 1), (2, 3), (4, 2), (6, 4)], ids=["grey", "RGB", "grey + alpha", "RGBA"])
def test_a_png_of_sixteen_bits_is_read_whatever_its_colours(kind, count):
    deep = np.random.default_rng(0).integers(0, 65536, (5, 7, count), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    read = pixels_of(png(7, 5, 16, kind, rows))
    assert np.array_equal(read, np.broadcast_to((deep >> 8)[..., : 3 if count > 2 else 1], (5, 7, 3)))


def test_sixteen_bits_become_eight_rather_than_white():
    grey = PIXELS[..., 1]
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    assert np.array_equal(pixels_of(encoded(deep))[..., 0], grey)
    assert np.array_equal(pixels_of(Image.fromarray(grey.astype(np.int32) * 257))[..., 0], grey)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_the_right_way_up(orientation):
    """The eight ways in which a camera lays down rows and columns; 6 is a phone held upright."""
    turned = {
        1: PIXELS, 2: PIXELS[:, ::-1], 3: PIXELS[::-1, ::-1], 4: PIXELS[::-1], 5: PIXELS.swapaxes(0, 1),
        6: np.rot90(PIXELS), 7: PIXELS[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(PIXELS, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(pixels_of(encoded(Image.fromarray(np.ascontiguousarray(turned)), exif=exif)), PIXELS)


TEXT = b"Dear photo,\nyou are a text.\n"
DAMAGED = {
    "text": TEXT,
    "empty": b"",
    "half a JPEG": PHOTO.read_bytes()[:20000],
    "head of a JPEG": PHOTO.read_bytes()[:300],
    "half a PNG": encoded(Image.open(PHOTO))[:20000],
    "flipped PNG": encoded(Image.open(PHOTO))[:1000] + bytes(2000) + encoded(Image.open(PHOTO))[3000:],
    "zeros": bytes(1000),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}


@pytest.mark.parametrize("what", DAMAGED)
def test_what_is_no_image_is_named(what, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(DAMAGED[what])
    with pytest.raises(InputError, match=r"photo\.jpg") as caught:
        read_image(path)
    assert len(str(caught.value).splitlines()) <= 3
    with pytest.raises(InputError, match="image 3"):
        read_image(DAMAGED[what], "image 3")


@pytest.mark.parametrize("path", ["nowhere/photo.jpg", ".", "nul\0.jpg", ""])
def test_a_path_that_cannot_be_read_is_named(path):
    with pytest.raises(InputError, match="cannot be read"):
        read_image(path)


def test_a_decompression_bomb_is_refused_unread():
    """A PNG of 60 kB that would unpack to 1.2 GB: its header alone is enough."""
    bomb = encoded(Image.new("1", (20000, 20000)))
    assert len(bomb) < 100_000
    with pytest.raises(InputError, match="image 0 has more pixels"):
        read_image(bomb, "image 0")


def test_a_false_size_is_refused_by_the_head_alone():
    """Some 70 bytes that claim 50,000 × 50,000 pixels, 7.5 GB."""
    bomb = png(50_000, 50_000, 8, 2, b"")
    assert len(bomb) < 100
    with pytest.raises(InputError, match="image 0 has more pixels"):
        read_pixels(bomb, "image 0")


def test_a_single_pixel_is_an_image():
    assert pixels_of(encoded(Image.new("RGB", (1, 1), (1, 2, 3)))).tolist() == [[[1, 2, 3]]]
    assert pixels_of(encoded(Image.new("RGB", (1, 1), (90, 90, 90)), "JPEG")).tolist() == [[[90, 90, 90]]]


def test_a_flipped_byte_of_a_jpeg_is_an_image_or_a_message():
    """Whatever the decoder makes of it: nothing but InputError, and never another size."""
    photo, random = PHOTO.read_bytes(), np.random.default_rng(0)
    refused = 0
    for place in random.integers(2, len(photo), 100):
        damaged = bytearray(photo)
        damaged[place] ^= 0xFF
        try:
            assert pixels_of(damaged).shape[2] == 3
        except InputError as error:
            refused += "image" in str(error)
    assert refused < 100


@pytest.mark.parametrize("image", [PHOTO, PHOTO.read_bytes(), Image.open(PHOTO), PIXELS, PIXELS[..., 0]], ids=type)
def test_pixels_are_those_of_the_image_with_the_colours_side_by_side(image):
    pixels = read_pixels(image)
    assert pixels.dtype == torch.uint8 and pixels.stride() == (1, 3 * pixels.shape[2], 3)
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), pixels_of(image))


def test_an_image_of_the_caller_stays_as_it_is():
    photo = Image.open(PHOTO)
    read_image(photo).paste((0, 0, 0), (0, 0, 100, 100))
    assert np.array_equal(np.asarray(photo), PIXELS)


@pytest.mark.parametrize(
    "image",
    [
        7, None, {"path": "photo.jpg"}, np.zeros((4, 6, 2), np.uint8), np.zeros((0, 6, 3), np.uint8), np.zeros(5, np.uint8),
        np.zeros((4, 6, 3), np.int64), np.full((4, 6, 3), 1.5), np.full((4, 6, 3), -0.1), np.full((4, 6, 3), np.nan),
        torch.zeros(6, 4, 3), torch.zeros(3, 0, 4), torch.tensor(0.5), torch.full((3, 4, 6), 255.0),
        torch.zeros(3, 4, 6, dtype=torch.int64), np.array("photo.jpg"), np.zeros((2, 2), complex),
        Image.new("RGB", (0, 0)), Image.new("L", (0, 6)),
    ],
)  # fmt: skip
def test_what_cannot_be_an_image_says_what_can(image):
    with pytest.raises(InputError, match="image 5") as caught:
        read_image(image, "image 5")
    assert "give" in str(caught.value) and len(str(caught.value).splitlines()) <= 3


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = {"/cat.jpg": PHOTO.read_bytes(), "/page": b"<html>not found</html>"}.get(self.path)
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_image_is_fetched_from_an_address(server):
    assert np.array_equal(pixels_of(f"{server}/cat.jpg"), PIXELS)


def test_an_address_without_an_image_is_named(server):
    with pytest.raises(InputError, match="/page is not an image"):
        read_image(f"{server}/page")
    with pytest.raises(SourceError, match=r"/gone\.jpg"):
        read_image(f"{server}/gone.jpg")


def test_plain_http_stays_on_this_machine():
    with pytest.raises(SourceError, match="only https"):
        read_image("http://example.org/cat.jpg")


def test_a_download_has_a_limit(server, monkeypatch):
    monkeypatch.setattr(images, "KIND", images.KIND._replace(largest=30_000))
    with pytest.raises(InputError, match="the image has over"):
        read_image(f"{server}/cat.jpg")


def test_offline_nothing_is_fetched(server, monkeypatch):
    monkeypatch.setenv("BESTIARY_OFFLINE", "1")
    with pytest.raises(OfflineError, match=r"/cat\.jpg"):
        read_image(f"{server}/cat.jpg")
