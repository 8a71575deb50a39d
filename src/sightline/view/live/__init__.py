"""Pages that run the model: its weights and tokenizer, packed for the runtime in ``web/live/``."""

from sightline.view.live.packing import PackedWeights, packed
from sightline.view.live.supported import check_supported

__all__ = ["PackedWeights", "check_supported", "packed"]
