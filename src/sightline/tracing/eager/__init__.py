"""Hand-written attention: follows q·kᵀ through whatever a model does to it, up to weights · value.

Operations are watched below autograd, where a model's ``@``, ``einsum``, ``softmax`` and the rest are a few
dozen ATen operators. Views need no watching: a tensor's strides say what was done (see ``layout``).

``followed`` holds what is known, ``products`` begins and ends it; ``terms``, ``hiding``, ``writes``,
``softmax`` and ``dropout`` say what an operation makes of it, and ``watched`` names the operations.
``grouping`` and ``product_grid`` find heads that share their keys, ``features`` what a layer has learnt.
"""
