"""A relative bias of -inf hides, and the mean of a cell is that of what may be seen."""

import math

import pytest
import torch

import sightline


@pytest.mark.parametrize("backend", ["cpu", "chunked"])
def test_a_table_that_hides_counts_no_hidden_pair(backend):
    query, key = torch.randn(2, 1, 2, 6, 8)
    table = torch.tensor([[0.5, -math.inf, 0.0], [0.0, 0.0, -math.inf]])
    with sightline.backend(backend):
        matrix = sightline.AttentionMatrix(query, key, bias=sightline.relative(table))
        picture = matrix.pool(2, 3)
    weights = matrix.dense()
    cells = weights.unfold(2, 3, 3).unfold(3, 2, 2)
    torch.testing.assert_close(picture, cells.sum((4, 5)) / (cells > 0).sum((4, 5)), equal_nan=True)
