"""The catalogue, unverified calls, memory, and errors that all measures share."""

import math
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import sightline
from sightline import measure
from sightline.backends import schedule
from sightline.measure import side_by_side

TOKENS = torch.arange(12) % 5
CALLS = {
    "attention_distance": measure.attention_distance,
    "diagonality": measure.diagonality,
    "duplicate_token": lambda A, **o: measure.duplicate_token(A, tokens(A), **o),
    "encoder_decoder_relevance": lambda A, **o: measure.encoder_decoder_relevance(
        [graded(A)], [(graded(A), graded(A))], 0, **o
    ),
    "entropy": lambda A, **o: measure.entropy(A, normalized=True, **o),
    "entropy_collapse": measure.entropy_collapse,
    "entropy_difference": lambda A, **o: measure.entropy_difference(A, A, **o),
    "frame_alignment": measure.frame_alignment,
    "grid_distance": lambda A, **o: measure.grid_distance(A, (3, shape(A)[2] // 3), **o),
    "head_divergence": measure.head_divergence,
    "head_labels": lambda A, **o: measure.head_labels(A, tokens(A), **o),
    "head_similarity": measure.head_similarity,
    "induction": lambda A, **o: measure.induction(A, tokens(A), **o),
    "jensen_shannon": lambda A, **o: measure.jensen_shannon(A, A, **o),
    "learned_sink_mass": measure.learned_sink_mass,
    "local_mass": measure.local_mass,
    "max_logit": lambda A, **o: measure.max_logit(A, stage="scaled", **o),
    "merge_words": lambda A, **o: measure.merge_words(A, tokens(A), **o),
    "next_token": measure.next_token,
    "offset_score": lambda A, **o: measure.offset_score(A, -2, **o),
    "previous_token": measure.previous_token,
    "received": lambda A, **o: measure.received(A, normalized=True, **o),
    "relevance": lambda A, **o: measure.relevance([graded(A)], [0, 1], **o),
    "retrieval": lambda A, **o: measure.retrieval(A, tokens(A), slice(2, 5), **o),
    "rollout": lambda A, **o: measure.rollout([A, A], [0, 1], **o),
    "sink_mass": lambda A, **o: measure.sink_mass(A, slice(0, 20), **o),
    "sink_rate": measure.sink_rate,
    "topk_overlap": lambda A, **o: measure.topk_overlap(A, A, 3, **o),
    "total_variation": lambda A, **o: measure.total_variation(A, A, **o),
    "weighted_norms": lambda A, **o: measure.weighted_norms(A, **o),
    "word_alignment": lambda A, **o: measure.word_alignment(A, tokens(A), tokens(A), **o),
}


@dataclass
class Call:
    """What a trace holds: a matrix, and whether it was verified."""

    matrix: sightline.AttentionMatrix
    verified: bool = False
    name: str = "encoder.layer.3"
    reason: str = "weights times value differ from the context by 0.3"


def shape(A):
    return getattr(A, "matrix", A).shape


def tokens(A):
    return torch.arange(shape(A)[3]) % 5


def graded(A):
    return A, torch.ones(1, 2, shape(A)[2], 4)


def matrix(n=12):
    return sightline.AttentionMatrix(*torch.randn(3, 1, 2, n, 4), mask=sightline.causal())


def test_every_measure_is_called_here():
    assert list(CALLS) == list(measure.all())
    public = {name for name in measure.__all__ if callable(getattr(measure, name)) and name[0].islower()}
    assert public - set(CALLS) == {"about", "all", "compare", "dtw", "word_times"}


@pytest.mark.parametrize("name", CALLS)
def test_entries(name):
    entry = measure.about(name)
    assert entry.function is getattr(measure, name)
    assert entry.name == name
    for text in (entry.summary, entry.formula, entry.unit, entry.source, entry.caveat):
        assert text
        assert "\n" not in text
    assert entry.summary.endswith(".")
    assert any(year in entry.source for year in map(str, range(1978, 2026)))
    doc = entry.function.__doc__
    for part in (
        "Args:",
        "Returns:",
        "Raises:",
        "Formula:",
        "Unit:",
        "Source:",
        "Caveat:",
        "Example:",
        ">>>",
    ):
        assert part in doc, part
    assert entry.range[0] < entry.range[1]


def test_unknown_entry():
    with pytest.raises(
        ValueError, match="about: there is no measure 'entropie'; known: attention_distance, "
    ):
        measure.about("entropie")


@pytest.mark.parametrize("name", CALLS)
def test_values_lie_in_the_range(name):
    found = CALLS[name](matrix())
    low, high = measure.about(name).range
    if name == "weighted_norms":
        found = found.part()
    for values in found if isinstance(found, tuple) else (found,):
        if isinstance(values, torch.Tensor):
            values = values[~values.isnan()]
            assert ((values >= low - 1e-6) & (values <= high + 1e-6)).all()


@pytest.mark.parametrize("name", CALLS)
def test_unverified_calls_are_refused(name):
    call = Call(matrix())
    with pytest.raises(
        measure.UnverifiedError, match=r"encoder.layer.3: not verified: weights times.*unverified=True"
    ):
        CALLS[name](call)
    CALLS[name](call, unverified=True)
    CALLS[name](Call(call.matrix, verified=True))


def test_a_mark_on_the_matrix_counts_too():
    A = matrix()
    A.reason = "the rows that were compared differ"
    with pytest.raises(measure.UnverifiedError, match="this call: not verified: the rows that were compared"):
        measure.entropy(A)
    with pytest.raises(measure.UnverifiedError):
        measure.compare(A, matrix())
    measure.compare(A, matrix(), unverified=True)


def test_a_call_without_a_matrix_is_refused_before_it_is_asked_for():
    class Unknown:
        verified, name, reason = False, "layer.0", "nothing was recognised"

        @property
        def matrix(self):
            raise LookupError("layer.0: has no attention matrix")

    for function in (measure.entropy, measure.head_divergence, lambda A: measure.compare(A, A)):
        with pytest.raises(measure.UnverifiedError, match="layer.0: not verified: nothing was recognised"):
            function(Unknown())
    with pytest.raises(LookupError):
        measure.entropy(Unknown(), unverified=True)


@pytest.mark.parametrize("given, text", [(torch.zeros(1, 1, 2, 2), "got Tensor"), (None, "got NoneType")])
def test_what_is_no_matrix(given, text):
    with pytest.raises(TypeError, match=f"measure: expected an AttentionMatrix, {text}. Make one with"):
        measure.entropy(given)
    with pytest.raises(TypeError, match="expected a"):
        measure.rollout(given, 0)


class Largest(TorchDispatchMode):
    """The largest tensor that is made, in bytes."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(one, torch.Tensor):
                self.bytes = max(self.bytes, one.untyped_storage().nbytes())
        return found


@pytest.mark.parametrize("name", CALLS)
def test_nothing_n_by_m_is_made(name, monkeypatch):
    """With blocks of 2^13 entries, no tensor comes near the float32 matrix of 2 heads.

    What is allowed: a few blocks' worth, the user's own mask, and a byte per cell for a path through frames.
    """
    monkeypatch.setattr(schedule, "BLOCK_ENTRIES", 1 << 13)
    monkeypatch.setattr(side_by_side, "BLOCK_ENTRIES", 1 << 13)
    n = 240
    mask = torch.rand(n, n) < 0.9 if len(name) % 2 else sightline.causal()
    A = sightline.AttentionMatrix(*torch.randn(3, 1, 2, n, 4), mask=mask)
    with sightline.backend("chunked"), Largest() as largest:
        found = CALLS[name](A)
        if name == "weighted_norms":
            found.topk(3), found.received(), found.row_sums()
    assert largest.bytes <= 2 * n * n * 4 / 4


KEYS = {
    "negative": (-1, ValueError, "keys: must be 0 or more, got -1. It counts first keys"),
    "bool": (True, TypeError, "keys: must be an integer, got True. It counts first keys"),
    "position": ([12], ValueError, r"keys: positions from 12 to 12 do not fit M=12 keys \(axis M\)"),
    "axes": (torch.zeros(1, 1, 1).long(), ValueError, r"keys: shape \[1, 1, 1\] fits neither \[K\] nor \[B,K\]"),
    "mask": (torch.zeros(7).bool(), ValueError, r"keys: shape \[7\] does not broadcast to \[B=1, M=12\]"),
    "floats": (torch.zeros(2), TypeError, "keys: expected integers, got torch.float32"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYS)
def test_keys_that_do_not_fit(name):
    keys, kind, text = KEYS[name]
    with pytest.raises(kind, match=text):
        measure.sink_mass(matrix(), keys)


def test_other_errors():
    A = matrix()
    with pytest.raises(TypeError, match=r"queries: expected a bool tensor \[N\] or \[B,N\].*got torch.int64"):
        measure.entropy(A, queries=torch.arange(12))
    with pytest.raises(ValueError, match=r"queries: shape \[7\] does not fit \[B=1, N=12\]"):
        measure.received(A, queries=torch.ones(7).bool())
    with pytest.raises(ValueError, match="threshold: must lie between 0 and 1, got 2"):
        measure.entropy_collapse(A, 2)
    with pytest.raises(ValueError, match="stage: there is no 'capped'; known: masked, scaled"):
        measure.max_logit(A, stage="capped")
    with pytest.raises(ValueError, match="radius: must be 0 or more, got -1"):
        measure.local_mass(A, -1)
    with pytest.raises(
        ValueError, match=r"grid: 1 special tokens and 3 x 4 patches make 13 tokens, .* N=12 .* M=12"
    ):
        measure.grid_distance(A, (3, 4), special=1)


def test_importing_sightline_does_not_import_measures():
    script = (
        "import sys, sightline\n"
        "assert 'sightline.measure' not in sys.modules and 'measure' in dir(sightline)\n"
        "assert sightline.measure.about('entropy').unit == 'nats'\n"
        "try: sightline.mesure\n"
        "except AttributeError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout == "module 'sightline' has no attribute 'mesure'\n", run.stderr


def test_gradients_flow_through_measures():
    query = torch.randn(1, 2, 9, 4, requires_grad=True)
    A = sightline.AttentionMatrix(query, torch.randn(1, 2, 9, 4), detach=False)
    measure.entropy(A).sum().backward()
    assert query.grad.abs().sum() > 0
    assert math.isfinite(float(query.grad.sum()))


@pytest.mark.parametrize("n, m", [(0, 6), (6, 0), (0, 0)])
@pytest.mark.parametrize("name", CALLS)
def test_empty_matrices(name, n, m):
    """No queries or no keys: nothing to average, or an error that says so; never a crash."""
    A = sightline.AttentionMatrix(torch.randn(1, 2, n, 4), torch.randn(1, 2, m, 4), torch.randn(1, 2, m, 4))
    try:
        found = CALLS[name](A)
    except ValueError:
        return
    if isinstance(found, torch.Tensor) and found.shape == (1, 2) and name not in ("max_logit", "retrieval"):
        assert found.isnan().all()
