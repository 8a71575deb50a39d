"""A task's model beside the same one made of ``torch.nn``: is it as good, and as fast?"""

from sightline.bench.beside.twin import torch_twin

__all__ = ["torch_twin"]
