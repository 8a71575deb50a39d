"""Head statistics over a corpus, in constant memory.

``over_corpus`` is the entry. ``corpus`` reads documents, ``batches`` groups them and ``encoders`` turns them
into ids; ``run`` goes through them, ``reader``, ``reads`` and ``statistics`` reduce each attention call to a
few numbers, ``tally`` adds these up exactly (``exact``, ``bins``). ``state`` and ``checkpoint`` survive
interruptions, ``shards`` lets several processes share the work. ``counted_rows`` makes the ``table`` of what
was counted; ``profile_file``, ``plot`` and ``summary`` write and show it. ``job`` puts them together.
"""

from sightline.profiling.over_corpus import load_profile, profile

__all__ = ["load_profile", "profile"]
