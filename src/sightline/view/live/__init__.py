"""Pages that run the model: its weights and tokenizer, packed for the runtime in ``web/live/``."""

from sightline.view.live.packing import WEIGHTS_LIMIT, PackedWeights, packed
from sightline.view.live.page import LONGEST, live_parts, write_page
from sightline.view.live.supported import check_supported

__all__ = [
    "LONGEST",
    "WEIGHTS_LIMIT",
    "PackedWeights",
    "check_supported",
    "live_parts",
    "packed",
    "write_page",
]
