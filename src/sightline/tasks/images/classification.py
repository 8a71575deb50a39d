"""One of a few labels for an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.common.errors import CommandError
from sightline.models import VisionEncoder, VisionEncoderConfig
from sightline.reading.output import likeliest
from sightline.tasks.images.augment import augmented
from sightline.tasks.images.folder import images_in
from sightline.tasks.images.pixels import as_pixels, open_image, upright
from sightline.tasks.images.reading import LabelledImage, read_images
from sightline.tasks.images.recipe import ImageRecipe
from sightline.tasks.rows import DataError
from sightline.tasks.splitting import split
from sightline.tasks.task import Data, LookOptions, Seen, Source, Task
from sightline.tracing import trace
from sightline.tracing.media import Picture

_AT_ONCE = 200  # images in a batch when the model is not training
_TOP = 5


class ImageClassification(Task):
    """A vision encoder over patches, the mean of its states, one logit for each label.

    ``settings`` has how a picture is prepared for the model: its ``size`` in pixels, its ``channels`` (1
    where all training images are grey, else 3), and ``mean`` and ``deviation`` of each channel over the
    training part, of values from 0 to 1.
    """

    name = "image-classification"
    metric = "accuracy"
    tokenized = False
    recipe = ImageRecipe(
        width=128, layers=2, heads=4, hidden=256, dropout=0.0, image_size=28, patch=4, stem=2, epochs=16,
        patience=16, batch=64, rate=2e-3, warmup=300, decay=0.05, smoothing=0.1, flip=0.5, shift=1,
        average=0.998,
    )  # fmt: skip

    def read(self, source: Source, recipe: Any) -> Data:
        """A folder of IDX files, or one with a folder of images for each label."""
        source.refuse(self.name, "columns", "fold")
        images = read_images(source, recipe.image_size)
        train, valid = images.train, images.valid
        if not valid:
            train, valid = split(train, recipe.seed)
        mean, deviation = _statistics(train)
        self.labels = images.labels
        self.settings = {
            "size": recipe.image_size, "channels": images.channels, "mean": mean, "deviation": deviation
        }  # fmt: skip
        return Data(train, valid, images.test, images.bad)

    def build(self, recipe: Any) -> VisionEncoder:
        """A vision encoder with a classification head."""
        return VisionEncoder(
            VisionEncoderConfig(
                width=recipe.width, layers=recipe.layers, heads=recipe.heads, hidden=recipe.hidden or None,
                dropout=recipe.dropout, image_size=recipe.image_size, patch_size=recipe.patch,
                channels=self.settings["channels"], stem=recipe.stem, head="classification",
                classes=len(self.labels),
            )
        )  # fmt: skip

    def size(self, example: LabelledImage) -> int:
        """All images have the same size."""
        return 0

    def loss(self, model: VisionEncoder, examples: Sequence[LabelledImage], recipe: Any) -> Tensor:
        """Cross-entropy of the labels, over varied images."""
        images = torch.stack([example.pixels for example in examples])
        images = augmented(images, flip=recipe.flip, shift=recipe.shift)
        logits = model(self._normalised(images))
        return F.cross_entropy(
            logits.float(), _numbers(examples).to(logits.device), label_smoothing=recipe.smoothing
        )

    def evaluate(
        self, model: VisionEncoder, examples: Sequence[LabelledImage], recipe: Any
    ) -> dict[str, float]:
        """Accuracy, as a share, and the loss."""
        right, loss = 0, 0.0
        for start in range(0, len(examples), _AT_ONCE):
            part = examples[start : start + _AT_ONCE]
            logits, labels = self._logits(model, [example.pixels for example in part]), _numbers(part)
            right += int((logits.argmax(1) == labels).sum())
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        return {"accuracy": right / len(examples), "loss": loss / len(examples)}

    def inputs(self, argument: str) -> list[Any]:
        """The path of an image, or those of all images in a folder.

        Raises:
            DataError: there is no such file or folder, or no image in it.
        """
        path = Path(argument)
        if not path.exists():
            raise DataError(f"{argument}: there is no such file or folder")
        paths = images_in(path) if path.is_dir() else [path]
        if not paths:
            raise DataError(f"{argument}: holds no image")
        return [str(each) for each in paths]

    def check(self, given: Any, at: int) -> None:
        """Whether it is a path or an image of Pillow.

        Raises:
            CommandError: it is neither.
        """
        if not isinstance(given, (str, Path)) and not hasattr(given, "getexif"):
            raise CommandError(
                f"input {at}: expected a path or an image of Pillow, got {type(given).__name__}"
            )

    def answers(
        self, model: VisionEncoder, inputs: Sequence[Any], recipe: Any, options: dict[str, Any]
    ) -> list[Any]:
        """For each image the ``top_k`` (5) likeliest {"label", "score"}, the likeliest first."""
        count = options.get("top_k", _TOP)
        if not isinstance(count, int) or count < 1:
            raise CommandError(f"top_k: an integer of 1 or more, got {count!r}")
        scores = self._logits(model, [self._pixels(each) for each in inputs]).softmax(-1)
        best = scores.topk(min(count, len(self.labels)))
        return [
            [{"label": self.labels[at], "score": score} for score, at in zip(*each, strict=True)]
            for each in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def together(self, answers: list[Any], alone: bool) -> Any:
        """For one image its list, for several a list of lists."""
        return answers[0] if alone else answers

    def look(self, model: VisionEncoder, given: Any, recipe: Any, options: LookOptions) -> Seen:
        """The image in patches, as the model sees it, and what they attended to."""
        options.refuse_target(self.name)
        pixels = self._pixels(given)
        with torch.no_grad(), trace(model) as calls:
            logits = model(self._normalised(pixels[None]))
        shown = pixels.permute(1, 2, 0).expand(-1, -1, 3)
        side = recipe.image_size // recipe.patch
        calls.medium = Picture(shown, rows=side, columns=side, first=1)
        name = Path(given).name if isinstance(given, (str, Path)) else "image"
        patches = [f"{row + 1}·{column + 1}" for row in range(side) for column in range(side)]
        output = likeliest("label", "label", logits[0].softmax(-1), self.labels)
        return Seen(calls, (f"{name} → {output.text}",), [["[class]", *patches]], output=output)

    def _pixels(self, given: Any) -> Tensor:
        """A path or an image of Pillow as the model's bytes."""
        image = open_image(Path(given)) if isinstance(given, (str, Path)) else upright(given)
        return as_pixels(image, self.settings["size"], self.settings["channels"])

    def _logits(self, model: VisionEncoder, images: Sequence[Tensor]) -> Tensor:
        logits: Tensor = model(self._normalised(torch.stack(list(images))))
        return logits.float().cpu()

    def _normalised(self, images: Tensor) -> Tensor:
        mean, deviation = (torch.tensor(self.settings[name])[:, None, None] for name in ("mean", "deviation"))
        return (images.float() / 255 - mean) / deviation


def _numbers(examples: Sequence[LabelledImage]) -> Tensor:
    return torch.tensor([example.label for example in examples])


def _statistics(examples: Sequence[LabelledImage]) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel; a constant channel gets the deviation of one step of a byte."""
    channels, count = len(examples[0].pixels), 0
    total, squares = torch.zeros(2, channels, dtype=torch.float64)
    for start in range(0, len(examples), 1000):
        values = torch.stack([each.pixels for each in examples[start : start + 1000]]).float() / 255
        total += values.sum((0, 2, 3), dtype=torch.float64)
        squares += values.square().sum((0, 2, 3), dtype=torch.float64)
        count += values[:, 0].numel()
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=0).sqrt().clamp(min=1 / 255)
    return mean.tolist(), deviation.tolist()
