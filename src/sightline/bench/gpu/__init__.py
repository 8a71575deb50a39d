"""``sightline bench --device cuda``: right first, then how fast beside the vendors' kernels, then memory.

On a CPU the same program runs on tiny problems, to see that it runs; its figures say nothing.
"""
