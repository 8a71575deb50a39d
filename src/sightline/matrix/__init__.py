"""The attention matrix, which is never stored: any part or readout of it is computed when asked for."""

from sightline.backends import MatrixBlock, Problem, Values
from sightline.backends.contract import Cells
from sightline.backends.grouped import grouped_product
from sightline.backends.picture import Grid, cell_of
from sightline.backends.schedule import BLOCK_ENTRIES
from sightline.backends.select import part as part_of
from sightline.matrix.attention_matrix import AttentionMatrix, TransposedMatrix
from sightline.matrix.limits import DENSE_LIMIT
from sightline.matrix.readouts import Readouts

__all__ = [
    "BLOCK_ENTRIES",
    "DENSE_LIMIT",
    "AttentionMatrix",
    "Cells",
    "Grid",
    "MatrixBlock",
    "Problem",
    "Readouts",
    "TransposedMatrix",
    "Values",
    "cell_of",
    "grouped_product",
    "part_of",
]
