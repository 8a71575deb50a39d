"""A nested batch is its texts one by one: values, gradients, and what cannot be taken."""

import pytest
import torch
from torch.nested import as_nested_tensor, nested_tensor_from_jagged

import sightline
from sightline.nn import MultiheadAttention, TransformerEncoder

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")

LAYOUTS = pytest.mark.parametrize("layout", [torch.jagged, torch.strided], ids=["jagged", "strided"])
SAME, OTHER = ([3, 1, 5], [3, 1, 5]), ([2, 1, 0, 4], [5, 1, 3, 4])

MASKS = {
    "none": lambda b, m: None,
    "causal": lambda b, m: sightline.causal(),
    "top-left": lambda b, m: sightline.causal("top-left"),
    "window": lambda b, m: sightline.window(1, 1),
    "prefix": lambda b, m: sightline.causal() | sightline.prefix(2),
    "ranges": lambda b, m: sightline.ranges(1, 3) | sightline.causal(1),
    "lengths": lambda b, m: sightline.causal() & sightline.lengths([max(0, n - 1) for n in m]),
    "offsets": lambda b, m: sightline.causal(torch.arange(3)[:b] if b > 1 else torch.tensor([1])),
}


def nested(lengths, heads, width, layout):
    """[B,H,j,D], as PyTorch makes it from [B,j,H,D]."""
    texts = [torch.randn(n, heads, width) for n in lengths]
    leaf = torch.nested.nested_tensor(texts, layout=layout, requires_grad=True)
    return leaf, leaf.transpose(1, 2)


def alone(text):
    return text[None]


@LAYOUTS
@pytest.mark.parametrize("lengths", [SAME, OTHER], ids=["self", "cross"])
@pytest.mark.parametrize("name", [name for name in MASKS if name != "offsets"])
def test_a_nested_batch_is_its_texts_one_by_one(name, lengths, layout):
    own, others = lengths
    (leaf, q), (_, k), (_, v) = (
        nested(own, 4, 8, layout),
        nested(others, 2, 8, layout),
        nested(others, 2, 6, layout),
    )
    mask = MASKS[name]
    context = sightline.attention(q, k, v, mask=mask(len(own), others))
    each = [
        sightline.attention(*map(alone, text), mask=mask(1, [others[b]]))[0]
        for b, text in enumerate(zip(q.unbind(), k.unbind(), v.unbind(), strict=True))
    ]
    assert context.is_nested and context.layout == layout
    for ours, theirs in zip(context.unbind(), each, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    weights = [torch.randn_like(one) for one in each]
    gradients = [
        torch.autograd.grad(
            sum((c * w).sum() for c, w in zip(some, weights, strict=True)), leaf, retain_graph=True
        )[0]
        for some in (context.unbind(), each)
    ]
    for ours, theirs in zip(*(gradient.unbind() for gradient in gradients), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@LAYOUTS
def test_each_text_has_an_offset_of_its_own(layout):
    _, x = nested([3, 4], 2, 8, layout)
    context = sightline.attention(x, x, x, mask=sightline.causal(torch.tensor([1, 0])))
    for b, text in enumerate(x.unbind()):
        wanted = sightline.attention(*[text[None]] * 3, mask=sightline.causal(1 - b))[0]
        torch.testing.assert_close(context.unbind()[b], wanted, atol=1e-5, rtol=1e-5)


@LAYOUTS
@pytest.mark.parametrize(
    "bias", [sightline.alibi(torch.tensor([0.5, 0.1])), sightline.relative(torch.randn(2, 5))]
)
def test_biases_by_distance(bias, layout):
    _, x = nested([3, 1, 5], 2, 8, layout)
    context = sightline.attention(x, x, x, mask=sightline.causal(), bias=bias)
    for ours, text in zip(context.unbind(), x.unbind(), strict=True):
        wanted = sightline.attention(*[text[None]] * 3, mask=sightline.causal(), bias=bias)[0]
        torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)


def test_the_context_has_the_offsets_of_the_query():
    _, x = nested([3, 1, 5], 2, 8, torch.jagged)
    context = sightline.attention(x, x, x)
    assert context.shape == x.shape
    assert (x + context).shape == x.shape
    theirs = torch.nn.functional.scaled_dot_product_attention(x, x, x)
    torch.testing.assert_close(context.values(), theirs.values(), atol=1e-5, rtol=1e-5)


def test_the_matrix_is_that_of_the_packed_texts():
    _, x = nested([3, 1, 5], 2, 8, torch.jagged)
    _, A = sightline.attention(x, x, x, mask=sightline.causal(), return_matrix=True)
    assert A.shape == (1, 2, 9, 9)
    last = x.unbind()[2][None]
    _, alone = sightline.attention(last, last, last, mask=sightline.causal(), return_matrix=True)
    torch.testing.assert_close(A[0, :, 4:, 4:], alone[0].dense())
    assert not A[0, :, 4:, :4].any()


def test_rows_between_texts_belong_to_none():
    values = torch.randn(9, 2, 8, requires_grad=True)
    offsets, lengths = torch.tensor([0, 3, 4, 9]), torch.tensor([2, 1, 4])
    x = nested_tensor_from_jagged(values, offsets, lengths).transpose(1, 2)
    context = sightline.attention(x, x, x, mask=sightline.causal())
    for ours, text in zip(context.unbind(), x.unbind(), strict=True):
        wanted = sightline.attention(*[text[None]] * 3, mask=sightline.causal())[0]
        torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)
    sum(text.sum() for text in context.unbind()).backward()
    assert not values.grad[[2, 8]].any()


def texts(*shapes, layout=torch.jagged):
    return torch.nested.nested_tensor([torch.randn(*shape) for shape in shapes], layout=layout)


X = texts((3, 2, 8), (5, 2, 8)).transpose(1, 2)
PLAIN = torch.randn(2, 2, 5, 8)

REFUSED = {
    "query not transposed": (
        lambda: sightline.attention(X.transpose(1, 2), X, X), ValueError, r"query: expected \[B,H,j,D\], .*transpose",
    ),
    "three axes": (
        lambda: sightline.attention(texts((3, 8)), X, X), ValueError, r"query: expected \[B,H,j,D\].* of 3 axes",
    ),
    "padded key": (lambda: sightline.attention(X, PLAIN, X), TypeError, "key: expected a nested tensor"),
    "padded query": (lambda: sightline.attention(PLAIN, X, X), TypeError, "key: expected one tensor, got a nested one"),
    "explain": (lambda: sightline.explain(X, X, X), TypeError, "query: expected one tensor, got a nested one. Pack it"),
    "matrix": (lambda: sightline.AttentionMatrix(X, X), TypeError, "query: expected one tensor, got a nested one"),
    "fewer texts": (
        lambda: sightline.attention(X, *[texts((3, 2, 8)).transpose(1, 2)] * 2), ValueError, "key: 1 texts differ .* 2",
    ),
    "no pairs": (
        lambda: sightline.attention(X, X, texts((4, 2, 8), (4, 2, 8)).transpose(1, 2)), ValueError,
        r"value: texts of the lengths \[4, 4\] differ from the key's \[3, 5\]",
    ),
    "heads of strided texts": (
        lambda: sightline.attention(*[texts((2, 3, 8), (1, 3, 8), layout=torch.strided)] * 3), ValueError,
        "query: expected .* Only their lengths may differ",
    ),
    "dense mask": (
        lambda: sightline.attention(X, X, X, mask=torch.ones(5, 5).bool()), TypeError, "mask: .*nested batch.*Pad",
    ),
    "documents": (
        lambda: sightline.attention(X, X, X, mask=sightline.documents(torch.zeros(5).long())), TypeError,
        "mask: Documents .*nested batch.*Pad",
    ),
    "ranges of each query": (
        lambda: sightline.attention(X, X, X, mask=sightline.ranges(torch.zeros(5).long(), 3)), ValueError,
        r"ranges: a bound of shape \[5\]",
    ),
    "lengths": (
        lambda: sightline.attention(X, X, X, mask=sightline.lengths([4, 4])), ValueError, "lengths: .* go beyond",
    ),
    "one length": (lambda: sightline.attention(X, X, X, mask=sightline.lengths([4])), ValueError, "lengths: a bound"),
    "offsets": (
        lambda: sightline.attention(X, X, X, mask=sightline.causal(torch.zeros(3).long())), ValueError,
        "align: 3 offsets do not fit the batch B=2",
    ),
    "dense bias": (lambda: sightline.attention(X, X, X, bias=torch.zeros(5, 5)), TypeError, "bias: .*nested batch"),
    "slopes of each text": (
        lambda: sightline.attention(X, X, X, bias=sightline.alibi(torch.ones(2, 2))), ValueError, "alibi slopes: a nest",
    ),
    "distances between other texts": (
        lambda: sightline.attention(
            X, *[texts((4, 2, 8), (4, 2, 8)).transpose(1, 2)] * 2, bias=sightline.alibi(torch.ones(2))
        ), ValueError, "bias: alibi.. and relative.. need queries and keys of the same lengths",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_says_what_can(name):
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call()


# --- layers ---------------------------------------------------------------------------------------------


@LAYOUTS
@pytest.mark.parametrize("is_causal", [False, True])
def test_multihead_attention(layout, is_causal):
    layer = MultiheadAttention(8, 2, batch_first=True)
    x = torch.nested.nested_tensor([torch.randn(n, 8) for n in (3, 1, 5)], layout=layout, requires_grad=True)
    output, weights = layer(x, x, x, is_causal=is_causal)
    each = [layer(*[text[None]] * 3, is_causal=is_causal)[0][0] for text in x.unbind()]
    for ours, theirs in zip(output.unbind(), each, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert weights.shape == (1, 9, 9) and layer(x, x, x, need_weights=False)[1] is None
    both = [torch.autograd.grad(sum((t**2).sum() for t in some), layer.in_proj_weight, retain_graph=True)[0]
            for some in (output.unbind(), each)]  # fmt: skip
    torch.testing.assert_close(*both, atol=1e-4, rtol=1e-4)


def test_multihead_attention_refuses_masks_of_one_shape():
    x = as_nested_tensor([torch.randn(3, 8), torch.randn(5, 8)], layout=torch.jagged)
    layer = MultiheadAttention(8, 2, batch_first=True)
    for name in ("key_padding_mask", "attn_mask"):
        with pytest.raises(ValueError, match=f"{name}: a nested batch has no padding"):
            layer(x, x, x, **{name: torch.zeros(2, 5).bool()})
    for options, message in (
        ({}, "batch_first=True"),
        ({"batch_first": True, "add_zero_attn": True}, "a key more"),
    ):
        with pytest.raises(ValueError, match=f"query: .*{message}"):
            MultiheadAttention(8, 2, **options)(x, x, x)


def test_a_whole_encoder():
    encoder = TransformerEncoder(2, 8, 2, window=2)
    x = as_nested_tensor([torch.randn(n, 8) for n in (3, 1, 5)], layout=torch.jagged)
    for ours, text in zip(encoder(x).unbind(), x.unbind(), strict=True):
        torch.testing.assert_close(ours, encoder(text[None])[0], atol=1e-5, rtol=1e-5)
