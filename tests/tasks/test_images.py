"""Images: from IDX files and folders to answers, any picture in one form, and runs that go on exactly."""

from __future__ import annotations

import gzip
import json
import random
import struct

import pytest
import torch

pytest.importorskip("PIL", reason="images need the [tasks] extra")
pytest.importorskip("rich", reason="tasks need the [app] extra")

from PIL import Image

import sightline
from sightline.cli import main
from sightline.common.errors import CommandError
from sightline.tasks.images.augment import augmented
from sightline.tasks.images.classification import ImageClassification
from sightline.tasks.images.idx import read_idx
from sightline.tasks.images.pixels import as_pixels, is_grey, open_image
from sightline.tasks.images.recipe import ImageRecipe
from sightline.tasks.task import Source
from sightline.tasks.training import TrainingRun

LEARN = [f"--set={each}" for each in ("width=32", "heads=2", "layers=1", "hidden=32", "image_size=12", "patch=4", "stem=0", "batch=16",
                                      "rate=5e-3", "warmup=5", "epochs=12", "smoothing=0", "average=0", "precision=float32")]  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def command(*arguments):
    return main([str(argument) for argument in arguments])


def stripes(label, draw, height=12, width=12):
    """Upright or level stripes, moved and dimmed at random: no pixel by itself tells the label."""
    start, light = draw.randrange(4), draw.randrange(150, 256)
    lines = torch.tensor([light * ((at + start) % 4 < 2) for at in range(width if label else height)])
    return (lines if label else lines[:, None]).expand(height, width).to(torch.uint8)


def write_idx(path, tensor, magic=None):
    header = magic or bytes((0, 0, 8, tensor.dim()))
    content = header + struct.pack(f">{tensor.dim()}I", *tensor.shape) + bytes(tensor.flatten().tolist())
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_part(folder, part, count, gz=".gz"):
    draw = random.Random(part)
    labels = [at % 2 for at in range(count)]
    folder.mkdir(exist_ok=True)
    write_idx(
        folder / f"{part}-images-idx3-ubyte{gz}", torch.stack([stripes(label, draw) for label in labels])
    )
    write_idx(folder / f"{part}-labels-idx1-ubyte{gz}", torch.tensor(labels))


@pytest.fixture
def idx_data(tmp_path):
    write_part(tmp_path / "idx", "train", 160)
    write_part(tmp_path / "idx", "t10k", 20, gz="")
    (tmp_path / "idx" / "labels.txt").write_text("level\nupright\n\n")
    return tmp_path / "idx"


def picture(label, draw, colour=(1.0, 1.0, 1.0), size=(30, 20)):
    """Stripes as a picture that is wider than high."""
    grey = stripes(label, draw, size[1], size[0])[..., None].float() * torch.tensor(colour)
    return Image.frombytes("RGB", size, bytes(grey.byte().flatten().tolist()))


@pytest.fixture
def colour_data(tmp_path):
    """Red and blue squares, which only colour tells apart, in files of several kinds."""
    draw = random.Random(0)
    for name, colour in (("blue", (0.1, 0.1, 1.0)), ("red", (1.0, 0.1, 0.1))):
        folder = tmp_path / "data" / name / "deeper"
        folder.mkdir(parents=True)
        for at in range(40):
            picture(draw.randrange(2), draw, colour).save(
                folder / f"{at}.{('png', 'JPEG', 'bmp', 'webp')[at % 4]}"
            )
        (folder.parent / "notes.txt").write_text("no image")
    return tmp_path / "data"


def test_idx_from_data_to_answers(idx_data, tmp_path, capsys):
    """The test part is read by itself; names come from the file beside; paths, pictures and folders are answered."""
    out = tmp_path / "model"
    given = ("train", "image-classification", "--data", idx_data, "--out", out)
    assert command(*given, *LEARN) == 0
    assert "test: accuracy 1.0000" in capsys.readouterr().out
    assert (
        "labels: level, upright" in (out / "README.md").read_text() and not (out / "tokenizer.json").exists()
    )
    draw = random.Random(7)
    shown = tmp_path / "shown"
    shown.mkdir()
    for label, name in enumerate(("level.png", "upright.png")):
        picture(label, draw, size=(12, 12)).save(shown / name)
    classify = sightline.pipeline("image-classification", out)
    answer = classify(shown / "upright.png")
    assert [each["label"] for each in answer] == ["upright", "level"]
    assert sum(each["score"] for each in answer) == pytest.approx(1, abs=1e-5)
    assert classify(Image.open(shown / "upright.png")) == answer
    both = classify([str(shown / "level.png"), str(shown / "upright.png")], top_k=1)
    assert [[each["label"] for each in one] for one in both] == [["level"], ["upright"]]
    assert both[1][0]["score"] == pytest.approx(answer[0]["score"], abs=1e-6)
    assert command("run", out, shown) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(label, path.rsplit("/", 1)[1]) for label, _, path in lines] == [
        ("level", "level.png"),
        ("upright", "upright.png"),
    ]
    page = tmp_path / "page.html"
    assert command("run", out, shown / "upright.png", "--json", "--look", page) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answers"] == answer and found["input"].endswith("upright.png")
    assert "upright.png → upright" in page.read_text()
    about = json.loads(page.read_text().split('id="sightline-data">')[1].split("</script>")[0])["about"]
    assert {name: about["medium"][name] for name in ("kind", "rows", "columns", "first")} == {
        "kind": "image", "rows": 3, "columns": 3, "first": 1
    }  # fmt: skip
    assert not about["notices"]  # patches have names: row and column
    assert [f"{row}·{column}" in page.read_text() for row, column in ((1, 1), (2, 3), (3, 3))] == [True] * 3


def test_a_folder_of_colours_from_data_to_answers(colour_data, tmp_path, capsys):
    out = tmp_path / "model"
    (colour_data / "red" / "broken.jpg").write_bytes(b"no image")
    given = [
        "train",
        "image-classification",
        "--data",
        colour_data,
        "--test",
        colour_data,
        "--out",
        out,
        *LEARN,
    ]
    assert command(*given) == 1
    assert (
        "broken.jpg: is no image of a kind that is read (PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM) (--skip-bad passes over"
        in capsys.readouterr().err
    )
    assert command(*given, "--skip-bad") == 0
    told = capsys.readouterr()
    assert "test: accuracy 1.0000" in told.out and "broken.jpg" in told.err
    assert "broken.jpg" in (out / "README.md").read_text()
    classify = sightline.pipeline("image-classification", out)
    assert classify.model.config.channels == 3
    assert [classify(colour_data / name / "deeper" / "4.png")[0]["label"] for name in ("red", "blue")] == [
        "red",
        "blue",
    ]


def test_numbers_and_names_of_idx(idx_data, tmp_path):
    task, recipe = ImageClassification(), ImageRecipe(image_size=12)
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\n")
    data = task.read(Source(idx_data, labels=names), recipe)
    assert task.labels == ["a", "b", "c"] and (len(data.train), len(data.valid), len(data.test)) == (
        144,
        16,
        20,
    )
    assert data.test[1].label == 1 and torch.equal(
        data.test[1].pixels[0], read_idx(idx_data / "t10k-images-idx3-ubyte", 3)[1]
    )
    values = torch.stack([pixels for pixels, _ in data.train]).double() / 255
    assert task.settings["mean"] == pytest.approx([float(values.mean())])
    assert task.settings["deviation"] == pytest.approx([float(values.std(correction=0))], rel=1e-4)
    (idx_data / "labels.txt").unlink()
    task.read(Source(idx_data), recipe)
    assert task.labels == ["0", "1"]
    resized = task.read(Source(idx_data), ImageRecipe(image_size=8, patch=4)).test[0].pixels
    assert resized.shape == (1, 8, 8)


MAGIC = bytes((0, 0, 8, 3))


@pytest.mark.parametrize(
    "content, told",
    [
        (b"", "begins with nothing, expected 00 00 08 03"),
        (bytes((0, 0, 8, 1)) + struct.pack(">I", 2) + b"ab", "begins with 00 00 08 01, expected 00 00 08 03"),
        (MAGIC + b"\0\0", "ends within its header"),
        (MAGIC + struct.pack(">3I", 2, 1, 2) + b"abc", "says 2 x 1 x 2 bytes, but there are only 3"),
        (MAGIC + struct.pack(">3I", 2, 1, 2) + b"abcde", "says 2 x 1 x 2 bytes, but there are more"),
        (MAGIC + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1) + b"a", "x-images-idx3-ubyte: "),
    ],
)
def test_malformed_idx_is_told(content, told, tmp_path):
    path = tmp_path / "x-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(CommandError, match=told):
        read_idx(path, 3)


def test_idx_files_that_do_not_fit_are_told(idx_data, tmp_path):
    def refused(told, source=None, **options):
        with pytest.raises(CommandError, match=told):
            ImageClassification().read(source or Source(idx_data, **options), ImageRecipe(image_size=12))

    refused("--fold: image-classification has no use for it", fold=(0, 2))
    refused("there is no such folder", Source(tmp_path / "nowhere"))
    labels = idx_data / "t10k-labels-idx1-ubyte"
    write_idx(labels, torch.tensor([0, 5] * 10))
    refused(r"image 1: has the label 5, but the 2 labels end at 1 \(--skip-bad passes")
    data = ImageClassification().read(Source(idx_data, skip_bad=True), ImageRecipe(image_size=12))
    assert len(data.test) == 10 and "image 1: has the label 5" in data.notices[0]
    write_idx(labels, torch.tensor([0, 1]))
    refused("holds 2 labels, but t10k-images-idx3-ubyte 20 images")
    labels.unlink()
    refused("holds no t10k-labels-idx1-ubyte, nor t10k-labels-idx1-ubyte.gz")
    write_part(idx_data, "t10k", 4)
    path = idx_data / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-30])
    refused("train-images-idx3-ubyte.gz: cannot be read: Compressed file ended")
    (idx_data / "labels.txt").write_text("one\none\n")
    refused("expected two or more different names")
    write_part(idx_data, "train", 4)
    write_idx(idx_data / "train-labels-idx1-ubyte.gz", torch.zeros(4, dtype=int))
    (idx_data / "labels.txt").unlink()
    refused("all sound images have the same label; two are needed", test=idx_data)


def test_folders_that_do_not_fit_are_told(colour_data, tmp_path):
    def refused(told, **options):
        with pytest.raises(CommandError, match=told):
            ImageClassification().read(Source(colour_data, **options), ImageRecipe(image_size=12))

    before = Source(colour_data).digest()
    (colour_data / "red" / "deeper" / "0.png").rename(colour_data / "blue" / "deeper" / "00.png")
    assert Source(colour_data).digest() != before
    other = tmp_path / "other"
    for name in ("blue", "green"):
        (other / name).mkdir(parents=True)
        picture(0, random.Random(0)).save(other / name / "x.png")
    refused("label 'green' is not among those of the training data", test=other)
    refused("--labels: a folder of images for each label has no use for it", labels=other / "x")
    (colour_data / "empty").mkdir()
    refused("empty: holds no image; known endings are")


def test_any_picture_in_one_form(tmp_path):
    """The middle square, upright, transparency on white, 16 bits scaled; the same grey from grey and from RGB."""

    def read(image, size=4, channels=3, name="x.png", **options):
        image.save(tmp_path / name, **options)
        return as_pixels(open_image(tmp_path / name), size, channels)

    wide = Image.new("RGB", (12, 4), (255, 0, 0))
    wide.paste((0, 0, 255), (4, 0, 8, 4))
    assert (
        read(wide)[:, 1, 1].tolist() == [0, 0, 255] and (read(wide)[2] == 255).all()
    )  # the sides are cut off
    assert read(wide, channels=1).unique().tolist() == [29]  # luminance of blue
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert read(clear).unique().tolist() == [255]
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([9, 9, 9, 0, 0, 200])
    assert read(palette)[:, 0, 0].tolist() == [0, 0, 200]
    assert read(palette, transparency=1).unique().tolist() == [255]
    deep = Image.frombytes("I;16", (2, 1), struct.pack("<2H", 65535, 128 * 257))
    assert read(deep, 1, 1).tolist() in ([[[191]]], [[[192]]])  # the mean of 255 and 128
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    half = Image.new("L", (4, 4), 0)
    half.paste(255, (0, 0, 4, 2))
    turned = read(half.convert("RGB"), exif=exif)
    assert is_grey(turned) and turned[0, :, 0].tolist() == [0, 0, 255, 255]
    fine = Image.frombytes("L", (64, 64), bytes([0, 255] * 32 * 64))
    assert (read(fine, 4, 1).float() - 127.5).abs().max() < 3  # antialiased, not picked
    with pytest.raises(CommandError, match="floating numbers"):
        read(Image.new("F", (4, 4)), name="x.tiff")


def test_unsafe_and_damaged_pictures_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    Image.new("L", (40, 40)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # between once and twice: Pillow itself only warns
    with pytest.raises(CommandError, match="exceeds limit of 1000 pixels"):
        open_image(path)
    monkeypatch.undo()
    whole = path.read_bytes()
    for content in (b"", whole[:50], whole[:-20], b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n"):
        path.write_bytes(content)
        with pytest.raises(CommandError, match=f"^{path}: "):
            open_image(path)


def test_images_are_mirrored_and_moved():
    """Every result is a flip and a shift with the edge going on, both are drawn, and labels of pixels stay whole."""
    image = torch.arange(48, dtype=torch.uint8).view(3, 4, 4)
    padded = torch.nn.functional.pad(image[None].float(), (1, 1, 1, 1), mode="replicate")[0].byte()
    possible = {
        (flip, down, right): (moved.flip(2) if flip else moved)
        for flip in (0, 1) for down in range(3) for right in range(3)
        for moved in [padded[:, down : down + 4, right : right + 4]]
    }  # fmt: skip
    torch.manual_seed(0)
    found = augmented(image.expand(400, 3, 4, 4), flip=0.5, shift=1)
    counts = [sum(bool(torch.equal(each, one)) for each in found) for one in possible.values()]
    assert sum(counts) == 400 and min(counts) > 5
    assert torch.equal(augmented(image[None], flip=0.0, shift=0)[0], image)


def test_an_interrupted_run_goes_on_exactly(idx_data, tmp_path):
    recipe = ImageRecipe(width=16, heads=2, layers=1, hidden=16, image_size=12, patch=4, dropout=0.1, epochs=3, batch=16,
                    flip=0.5, shift=2, average=0.9)  # fmt: skip

    def made(name):
        (tmp_path / name).mkdir(exist_ok=True)
        task = ImageClassification()
        return TrainingRun(
            task, task.read(Source(idx_data), recipe), recipe, tmp_path / name, {"data": "the same"}
        )

    class Steps:
        def __init__(self, stop=-1):
            self.left, self.losses = stop, []

        def notice(self, text):
            pass

        def step(self, epoch, done, of, loss):
            self.losses.append(loss)
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

        def epoch(self, epoch, figures, better):
            pass

    whole, before, after = Steps(), Steps(13), Steps()
    history = made("whole").fit(whole)
    with pytest.raises(KeyboardInterrupt):
        made("parts").fit(before)
    torch.manual_seed(99)
    assert made("parts").fit(after) == history
    assert before.losses + after.losses == whole.losses


@pytest.mark.parametrize(
    "setting, told",
    [
        ("patch=5", "patch: 5 does not divide the image_size of 28"),
        ("stem=3", "stem: from 0 up, as often as patch and width can be halved; got 3 for a patch of 4"),
        ("flip=1.5", "flip: from 0 to 1, got 1.5"),
        ("shift=28", "shift: from 0 to below the image_size of 28, got 28"),
        ("heads=3", "heads: 3 do not divide the width of 128"),
    ],
)
def test_settings_that_do_not_fit_are_told(setting, told):
    with pytest.raises(CommandError, match=told):
        ImageClassification.recipe.changed([setting])
