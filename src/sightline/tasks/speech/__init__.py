"""Speech recognition: from recordings and their transcripts to text.

Reads downward as the data flows: ``reading`` (what was said where), ``audio`` (samples), ``logmel`` and
``cepstra`` (frames), ``features`` (which of the two), ``augment`` (what training varies), ``recognition``
(the task), ``words`` and ``decoding`` (from logits to text).
"""

from sightline.tasks.speech.recognition import SpeechRecognition

__all__ = ["SpeechRecognition"]
