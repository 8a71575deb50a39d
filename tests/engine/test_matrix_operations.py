"""Operations that people run on ``outputs.attentions``: on a matrix they give what they give on its weights, or say why not."""

import copy
import math
import operator
import statistics

import numpy
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import default_collate

import sightline

WEIGHTS = torch.rand(2, 4, 6, 6)
ROW = torch.rand(6)
IDS = torch.tensor([0, 2, 1])
EYE = torch.eye(6)


@pytest.fixture(scope="module")
def A():
    q, k = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 6, 8)
    return sightline.AttentionMatrix(q, k, mask=sightline.causal())


def rollout(T):
    """Abnar & Zuidema 2020, as it is written everywhere."""
    joint = EYE.expand(2, 6, 6)
    for layer in (T, T):
        mixed = layer.mean(1) + EYE
        joint = mixed / mixed.sum(-1, keepdim=True) @ joint
    return joint


def grown(T):
    """As Transformers' Trainer joins batches of different lengths."""
    result = T.new_full((4, *T.shape[1:]), -100)
    result[: T.shape[0], : T.shape[1]] = T
    result[T.shape[0] :] = T
    return result


OPERATIONS = {
    # arithmetic
    "T + 1": lambda T: T + 1, "1 - T": lambda T: 1 - T, "T * T": lambda T: T * T, "2 * T": lambda T: 2 * T,
    "T / 2": lambda T: T / 2, "1 / (T + 1)": lambda T: 1 / (T + 1), "T ** 2": lambda T: T**2, "2 ** T": lambda T: 2**T,
    "-T": operator.neg, "abs(T)": abs, "T // 0.1": lambda T: T // 0.1, "T % 0.1": lambda T: T % 0.1,
    "T + tensor": lambda T: T + WEIGHTS, "tensor - T": lambda T: WEIGHTS - T, "T * row": lambda T: T * ROW,
    "T + T[0]": lambda T: T + T[0], "T[0] * T[1]": lambda T: T[0] * T[1],
    "sum([T, T])": lambda T: sum([T, T]), "T @ x": lambda T: T @ WEIGHTS, "x @ T": lambda T: WEIGHTS @ T,
    "T @ T": lambda T: T @ T, "T @ vector": lambda T: T @ ROW, "vector @ T": lambda T: ROW @ T,
    "T[0, 0] @ batch": lambda T: T[0, 0] @ WEIGHTS[0], "T.mT @ T": lambda T: T.mT @ T, "rollout": rollout,
    # comparisons
    "T == T": lambda T: T == T, "T != 0": lambda T: T != 0, "T > 0.2": lambda T: T > 0.2, "T <= tensor": lambda T: T <= WEIGHTS,
    "0.1 < T": lambda T: T > 0.1, "(T > .1) & (T < .5)": lambda T: (T > 0.1) & (T < 0.5), "0 in T": lambda T: 0 in T,
    "torch.equal": lambda T: torch.equal(T, T.clone()), "torch.allclose": lambda T: torch.allclose(T, T + 1e-9),
    "isclose": lambda T: torch.isclose(T, T), "isnan": lambda T: T.isnan().any(), "isfinite": lambda T: torch.isfinite(T),
    "where": lambda T: torch.where(T > 0.2, T, 0.0), "T.where": lambda T: T.where(T > 0.2, torch.tensor(0.0)),
    "masked_fill": lambda T: T.masked_fill(T < 0.1, 0), "masked_select": lambda T: T.masked_select(T > 0.2),
    # reductions
    "mean()": lambda T: T.mean(), "mean(1)": lambda T: T.mean(1), "mean(dim=(0, 1))": lambda T: T.mean(dim=(0, 1)),
    "torch.mean": lambda T: torch.mean(T, dim=1, keepdim=True), "sum(-1)": lambda T: T.sum(-1), "sum(dtype)": lambda T: T.sum(dtype=torch.float64),
    "max(-1)": lambda T: T.max(-1), "max(dim=1).values": lambda T: T.max(dim=1).values, "torch.max": torch.max, "min": lambda T: T.min(),
    "amax": lambda T: T.amax(-1), "aminmax": lambda T: T.aminmax(), "argmax": lambda T: T.argmax(-1), "argmin(1)": lambda T: T.argmin(1),
    "std": lambda T: T.std(-1), "var": lambda T: T.var(dim=1), "median": lambda T: T.median(1).values, "norm": lambda T: T.norm(dim=-1),
    "linalg.norm": lambda T: torch.linalg.norm(T, dim=(-2, -1)), "prod": lambda T: T.prod(1), "logsumexp": lambda T: T.logsumexp(-1),
    "cumsum": lambda T: T.cumsum(-1), "quantile": lambda T: T.quantile(0.5, dim=-1), "count_nonzero": lambda T: T.count_nonzero(-1),
    "nonzero": lambda T: (T > 0.3).nonzero(), "any": lambda T: (T > 0.9).any(-1), "all": lambda T: (T >= 0).all(), "topk(dim=)": lambda T: T.topk(2, dim=1).values,
    "sort": lambda T: T.sort(-1, descending=True).values, "argsort": lambda T: T[..., -1, :].argsort(-1), "histc": lambda T: T.histc(10, 0, 1),
    "bincount of argmax": lambda T: torch.bincount(T.argmax(-1).flatten(), minlength=6), "unique": lambda T: (T > 0.2).unique(),
    "trace": lambda T: torch.stack([h.trace() for h in T[0]]), "einsum": lambda T: torch.einsum("bhij->bij", T), "tensordot": lambda T: torch.tensordot(T, EYE, 1),
    "entropy by hand": lambda T: -(T * (T + 1e-9).log()).sum(-1), "statistics.mean": lambda T: torch.tensor(statistics.fmean(T[0, 0, 3].tolist())),
    # functions of each entry
    "log": lambda T: (T + 1).log(), "exp": torch.exp, "sqrt": lambda T: T.sqrt(), "clamp": lambda T: T.clamp(min=0.1), "round": lambda T: T.round(decimals=2),
    "relu": F.relu, "softmax": lambda T: T.softmax(-1), "F.softmax": lambda T: F.softmax(T, dim=-1), "F.normalize": lambda T: F.normalize(T, dim=-1),
    "log_softmax": lambda T: torch.log_softmax(T, -1), "nan_to_num": lambda T: T.nan_to_num(0), "special.entr": torch.special.entr, "lerp": lambda T: torch.lerp(T, WEIGHTS, 0.5),
    "dropout": lambda T: F.dropout(T, 0.0), "sigmoid": torch.sigmoid, "sign": lambda T: T.sign(), "pow": lambda T: T.pow(0.5), "float_power": lambda T: T.float_power(2),
    # shapes
    "transpose": lambda T: T.transpose(1, 2), "permute": lambda T: T.permute(0, 2, 3, 1), "reshape": lambda T: T.reshape(8, 36), "view": lambda T: T.view(2, -1),
    "flatten": lambda T: T.flatten(2), "unsqueeze": lambda T: T.unsqueeze(0), "squeeze": lambda T: T[:1].squeeze(0), "expand": lambda T: T[:1].expand(3, -1, -1, -1),
    "repeat": lambda T: T.repeat(1, 2, 1, 1), "repeat_interleave": lambda T: T.repeat_interleave(2, dim=1), "flip": lambda T: T.flip(-1), "roll": lambda T: T.roll(1, -1),
    "movedim": lambda T: T.movedim(1, -1), "swapaxes": lambda T: T.swapaxes(0, 1), "tril": lambda T: T.tril(-1), "triu": lambda T: torch.triu(T), "chunk": lambda T: T.chunk(2, 1)[1],
    "split": lambda T: T.split([1, 3], dim=1)[0], "unbind": lambda T: T.unbind(1)[2], "narrow": lambda T: T.narrow(2, 1, 3), "unfold": lambda T: T.unfold(-1, 2, 2),
    "diagonal(dim1=)": lambda T: T.diagonal(dim1=-2, dim2=-1), "diag_embed": lambda T: T[0].diag_embed(), "F.pad": lambda T: F.pad(T, (1, 0, 1, 0)), "ravel": torch.ravel,
    "T.mT": lambda T: T.mT, "adaptive_avg_pool2d": lambda T: F.adaptive_avg_pool2d(T, 3), "interpolate": lambda T: F.interpolate(T, scale_factor=2), "conv2d": lambda T: F.conv2d(T, torch.ones(1, 4, 3, 3)),
    "unflatten": lambda T: T.unflatten(1, (2, 2)), "view_as": lambda T: T.view_as(WEIGHTS), "expand_as": lambda T: T[:1].expand_as(WEIGHTS), "atleast_1d": torch.atleast_1d,
    # several together
    "stack": lambda T: torch.stack([T, T]), "stack of a tuple": lambda T: torch.stack((T, T)).mean(0), "cat": lambda T: torch.cat([T, WEIGHTS], 1), "concat": lambda T: torch.concat((T, T), dim=0),
    "vstack": lambda T: torch.vstack([T, T]), "cosine_similarity": lambda T: F.cosine_similarity(T, WEIGHTS, -1), "kl_div": lambda T: F.kl_div((T + 1).log(), WEIGHTS, reduction="sum"),
    "mse_loss": lambda T: F.mse_loss(T, WEIGHTS), "cdist": lambda T: torch.cdist(T, T), "bmm": lambda T: torch.bmm(T[0], WEIGHTS[0]), "matmul": lambda T: torch.matmul(T, WEIGHTS),
    "chain_matmul": lambda T: torch.linalg.multi_dot([T[0, 0], EYE, T[0, 1]]), "matrix_power": lambda T: torch.linalg.matrix_power(T, 2), "collate": lambda T: default_collate([T, T]),
    "F.linear": lambda T: F.linear(T, EYE), "baddbmm": lambda T: torch.baddbmm(WEIGHTS[0], T[0], T[1]), "meshed where": lambda T: torch.maximum(T, WEIGHTS), "block_diag": lambda T: torch.block_diag(T[0, 0], T[0, 1]),
    "pad_sequence": lambda T: torch.nn.utils.rnn.pad_sequence([T[0], T[1]]), "Trainer's nested_concat": grown,
    # picking
    "T[0]": lambda T: T[0], "T[0, 1]": lambda T: T[0, 1], "T[..., 0, 1:]": lambda T: T[..., 0, 1:], "T[:, :, 2]": lambda T: T[:, :, 2], "T[None]": lambda T: T[None], "T[:, IDS]": lambda T: T[:, IDS],
    "T[T > .3]": lambda T: T[T > 0.3], "T[[0, 1], [2, 3]]": lambda T: T[[0, 1], [2, 3]], "index_select": lambda T: T.index_select(1, IDS), "torch.index_select": lambda T: torch.index_select(T, 2, IDS),
    "gather": lambda T: T.gather(1, T.argmax(1, keepdim=True)), "take": lambda T: T.take(IDS), "take_along_dim": lambda T: torch.take_along_dim(T, T.argsort(dim=-1, stable=True), -1),
    "scatter": lambda T: T.scatter(-1, torch.zeros(2, 4, 6, 1, dtype=torch.long), 9.0), "index_fill": lambda T: T.index_fill(1, IDS, 0), "for head in T[0]": lambda T: torch.stack([h.sum() for h in T[0]]),
    "list(T)": lambda T: torch.stack([x + 0 for x in list(T)]), "zip": lambda T: torch.stack([a * b for a, b in zip(T, WEIGHTS, strict=True)]), "enumerate": lambda T: torch.stack([i * x for i, x in enumerate(T)]),
    "reversed": lambda T: reversed(T), "unpack": lambda T: (lambda a, b: a - b)(*T), "tolist": lambda T: torch.tensor(T.tolist()), "item": lambda T: torch.tensor(T[0, 0, 0, 0].item()), "T.T of a head": lambda T: T[0, 0].T,
    # kinds
    "float()": lambda T: T.float(), "double()": lambda T: T.double(), "half()": lambda T: T.half(), "bool()": lambda T: T.bool(), "long()": lambda T: (T * 100).long(), "type": lambda T: T.type(torch.float64),
    "detach().cpu()": lambda T: T.detach().cpu(), "cpu().numpy()": lambda T: torch.from_numpy(T.cpu().numpy()), "clone": lambda T: T.clone(), "contiguous": lambda T: T.contiguous(), "to(float64)": lambda T: T.to(torch.float64),
    "data": lambda T: T.data, "type_as": lambda T: T.type_as(WEIGHTS.double()), "new_zeros": lambda T: T.new_zeros(3), "zeros_like": torch.zeros_like, "ones_like": lambda T: torch.ones_like(T), "empty_like": lambda T: torch.empty_like(T).zero_(),
    "full_like": lambda T: torch.full_like(T, 2.0), "new_tensor": lambda T: T.new_tensor([1.0]), "as_tensor": torch.as_tensor, "asarray": torch.asarray, "from_dlpack": torch.from_dlpack, "copy": copy.copy, "deepcopy": copy.deepcopy,
    "shape": lambda T: torch.tensor(T.shape), "size()": lambda T: torch.tensor(T.size()), "stride": lambda T: torch.tensor(T.stride()), "numel": lambda T: torch.tensor(torch.numel(T)), "len": lambda T: torch.tensor(len(T)),
    # NumPy and einops
    "numpy.asarray": lambda T: torch.tensor(numpy.asarray(T)), "numpy.mean": lambda T: torch.tensor(numpy.asarray(T).mean(1)), "numpy.stack": lambda T: torch.tensor(numpy.stack([T[0], T[1]])),
    "numpy.array(dtype)": lambda T: torch.tensor(numpy.array(T, dtype=numpy.float64)), "numpy.log": lambda T: torch.as_tensor(numpy.exp(T)), "T * array": lambda T: torch.as_tensor(T * numpy.ones(6, numpy.float32)),
    # containers
    "dict": lambda T: {T: T}[T], "in a list": lambda T: torch.tensor(T in [T]), "bool(T[0,0,0,0] > 0)": lambda T: torch.tensor(bool(T[0, 0, 0, 0] > 0)), "float": lambda T: torch.tensor(float(T[0, 0, 1, 0])), "math": lambda T: torch.tensor(math.exp(T[0, 0, 2, 0])),
    "format": lambda T: torch.tensor(float(f"{T[0, 0, 1, 0]:.3f}")),
}  # fmt: skip

EINOPS = {
    "rearrange": lambda e, T: e.rearrange(T, "b h i j -> (b h) i j"),
    "reduce": lambda e, T: e.reduce(T, "b h i j -> b i", "mean"),
    "repeat": lambda e, T: e.repeat(T, "b h i j -> b h i j c", c=2),
    "einsum": lambda e, T: e.einsum(T, WEIGHTS, "b h i j, b h j e -> b h i e"),
    "pack": lambda e, T: e.pack([T, T], "* h i j")[0],
    "parse_shape": lambda e, T: torch.tensor(e.parse_shape(T, "b h i j")["h"]),
}

# What differs, and what it says.
REFUSED = {
    "a truth value": (lambda T: bool(T), ValueError, "has no truth value; ask for a readout"),
    "in place": (lambda T: T.mul_(2), RuntimeError, r"mul_: .* A.dense\(\) gives a tensor that can be"),
    "assignment": (lambda T: T.__setitem__(0, 0), RuntimeError, r"__setitem__: .* A.dense\(\)"),
    "a parameter": (torch.nn.Parameter, RuntimeError, r"requires_grad_: .* A.dense\(\)"),
}


@pytest.mark.filterwarnings("ignore:.*__array:DeprecationWarning")  # what NumPy says of every tensor
@pytest.mark.parametrize("name", OPERATIONS)
def test_as_on_the_weights(A, name):
    found, wanted = OPERATIONS[name](A), OPERATIONS[name](A.dense())
    if isinstance(wanted, torch.Tensor):
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
        found = found + 0 if wanted.is_floating_point() else found
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)
    else:
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", EINOPS)
def test_einops(A, name):
    library = pytest.importorskip("einops")
    torch.testing.assert_close(EINOPS[name](library, A), EINOPS[name](library, A.dense()))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(A, name):
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call(A)


def test_own_meanings_differ_as_they_are_documented(A):
    weights = A.dense()
    assert A.max().values.shape == weights.max(-1).values.shape and weights.max().dim() == 0
    assert A.topk(2).indices.min() == -1
    assert A.diagonal().shape == weights.diagonal(dim1=-2, dim2=-1).shape != weights.diagonal().shape
    assert torch.equal(A.T.dense(), weights.mT)


def test_it_is_shown_as_a_picture(A):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    image = pyplot.figure().add_subplot().imshow(A[0, 0])
    numpy.testing.assert_allclose(image.get_array(), A[0, 0].dense().numpy())
    pyplot.close("all")


def test_closeness_is_asserted(A):
    torch.testing.assert_close(A, A.dense())
    with pytest.raises(AssertionError):
        torch.testing.assert_close(A, A.dense() + 1)
