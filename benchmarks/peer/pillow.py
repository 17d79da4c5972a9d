"""What a plain loop over Pillow does: makes sources, prepares them as `patch-diffusion prepare` does, compares results.

make FOLDER SMALL PHOTOS LARGE   writes small.zip (PNGs of 64 px), photos/ (JPEGs of 256 px), large/ (12 megapixels)
prepare SOURCE OUT SIDE          centre crop, Lanczos, PNGs without compression in a zip; prints seconds as JSON
compare A B                      prints the largest difference of pixels as JSON
"""
import io
import json
import os
import sys
import time
import zipfile

from PIL import Image


def picture(seed, width, height):
    """Coarse shapes with some grain, like a photo: neither flat nor noise alone."""
    shapes = Image.effect_noise((max(width // 8, 4), max(height // 8, 4)), 90).convert("RGB")
    shapes = shapes.resize((width, height), Image.BICUBIC)
    bands = [Image.effect_noise((width, height), 20 + seed % 7) for _ in range(3)]
    return Image.blend(shapes, Image.merge("RGB", bands), 0.25)


def make(folder, small, photos, large):
    with zipfile.ZipFile(os.path.join(folder, "small.zip"), "w", zipfile.ZIP_STORED) as archive:
        for i in range(small):
            data = io.BytesIO()
            picture(i, 64, 64).save(data, "PNG")
            archive.writestr(f"{i:05d}.png", data.getvalue())
    for name, count, size in [("photos", photos, (256, 256)), ("large", large, (4000, 3000))]:
        os.mkdir(os.path.join(folder, name))
        # A few pictures, each several times: making them takes longer than anything else here.
        files = []
        for i in range(min(count, 8)):
            data = io.BytesIO()
            picture(i, *size).save(data, "JPEG", quality=90)
            files.append(data.getvalue())
        for i in range(count):
            with open(os.path.join(folder, name, f"{i:05d}.jpg"), "wb") as file:
                file.write(files[i % len(files)])


def images(source):
    if os.path.isdir(source):
        for name in sorted(os.listdir(source)):
            yield Image.open(os.path.join(source, name))
        return
    with zipfile.ZipFile(source) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".png"):
                yield Image.open(io.BytesIO(archive.read(name)))


def prepare(source, out, side):
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for i, image in enumerate(images(source)):
            image = image.convert("RGB")
            width, height = image.size
            crop = min(width, height)
            left, top = (width - crop) // 2, (height - crop) // 2
            image = image.crop((left, top, left + crop, top + crop)).resize((side, side), Image.LANCZOS)
            data = io.BytesIO()
            image.save(data, "PNG", compress_level=0)
            archive.writestr(f"{i:08d}.png", data.getvalue())


def compare(a, b):
    largest = 0
    pairs = list(zip(images(a), images(b)))
    for one, other in pairs:
        pixels = zip(one.convert("RGB").tobytes(), other.convert("RGB").tobytes())
        largest = max(largest, max(abs(x - y) for x, y in pixels))
    return {"images": len(pairs), "largest": largest}


command, *rest = sys.argv[1:]
if command == "make":
    make(rest[0], *map(int, rest[1:]))
elif command == "prepare":
    prepare(rest[0], rest[1], int(rest[2]))
    print(json.dumps({"cpu": time.process_time()}))
else:
    print(json.dumps(compare(*rest)))
