"""A text from a text.

``pairs`` is what translations and summaries share: reading, loss, generation; ``translation``
and ``summarization`` are the tasks, with their figures, of which ``rouge`` is ours.
"""

from sightline.tasks.pairs.summarization import Summarization
from sightline.tasks.pairs.translation import Translation

__all__ = ["Summarization", "Translation"]
