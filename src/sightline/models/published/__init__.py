"""Published weights of Transformers, in our models: ``weights`` carries them over, a file for each family
says which goes where."""

from sightline.models.published.source import from_huggingface

__all__ = ["from_huggingface"]
