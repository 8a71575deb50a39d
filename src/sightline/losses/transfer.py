"""Attention distillation: a student whose matrices are to be like a teacher's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from sightline.backends import Problem
from sightline.common.check import check_device, choice, shown
from sightline.losses.given import check_reduction, reduced, rows_that_see, standing, trained
from sightline.losses.relations import Of, relation
from sightline.matrix import AttentionMatrix
from sightline.measure.rows import visible
from sightline.measure.subject import Measurable

Stage = Literal["scaled", "weights"]


def divergence(
    student: Measurable,
    teacher: Measurable,
    kind: str = "kl",
    *,
    queries: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """How far the rows of a student's matrix are from those of its teacher.

    ``Σⱼ tᵢⱼ ln(tᵢⱼ / sᵢⱼ)`` of each row i, with the teacher's weights t and the student's s; other kinds as
    in :meth:`AttentionMatrix.divergence`. The widths of the two may differ, the numbers of heads may not:
    ``teacher[:, [0, 2]]`` chooses some, and :func:`minilmv2` needs no heads in common.

    Args:
        student: AttentionMatrix [B,H,N,M], or a call that holds one.
        teacher: the same, of another model on the same tokens. It gets gradients, too, unless it is made
            under ``torch.no_grad()`` or detached.
        kind: "kl", "reverse_kl", "js" or "l2". Default: "kl".
        queries: bool [N] or [B,N], which queries count; leave padding out here. Default: all.
        reduction: "mean" over all rows that count, "heads" [H], or "none" [B,H,N] with 0 for the others.

    Returns:
        The loss in nats ("l2": squared weight), float32 or better; inf where the teacher looks at what the
        student may not see.

    Raises:
        ValueError: for matrices of other shapes, an unknown kind, a detached student while gradients are on;
            TypeError: for what is no matrix.

    Source: Wang et al. 2020, "MiniLM: deep self-attention distillation" (KL of the last layer's attention).

    Example:
        >>> import sightline, torch
        >>> query, key = torch.randn(2, 1, 2, 10, 4).requires_grad_()
        >>> student = sightline.AttentionMatrix(query, key, detach=False)
        >>> teacher = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 10, 16))
        >>> sightline.losses.divergence(student, teacher).requires_grad
        True
    """
    check_reduction(reduction)
    mine, other = _pair(student, teacher)
    return reduced(other.divergence(mine, kind), rows_that_see(mine, queries), reduction)


def minilm(
    student: Measurable, teacher: Measurable, *, heads: int | None = None, queries: Tensor | None = None
) -> Tensor:
    """MiniLM's loss: the KL of a teacher's attention, and that of its value relation.

    ``mean KL(T ‖ S) + mean KL(R(T) ‖ R(S))`` with R the :func:`relation` of values. For the last layers of
    both models, which must have as many heads.

    Args:
        student: AttentionMatrix [B,H,N,N] with its values, or a call that holds one.
        teacher: the same, of another model on the same tokens.
        heads: how many relation heads. Default: as many as the values have.
        queries: bool [N] or [B,N], which positions count; leave padding out here. Default: all.

    Raises:
        ValueError, TypeError: as :func:`divergence` and :func:`relation`.

    Source: Wang et al. 2020, "MiniLM: deep self-attention distillation for task-agnostic compression of
    pre-trained Transformers".

    Example:
        >>> import sightline, torch
        >>> student = sightline.AttentionMatrix(*torch.randn(3, 1, 2, 10, 4).requires_grad_(), detach=False)
        >>> teacher = sightline.AttentionMatrix(*torch.randn(3, 1, 2, 10, 16))
        >>> sightline.losses.minilm(student, teacher).shape
        torch.Size([])
    """
    attention = divergence(student, teacher, queries=queries)
    return attention + minilmv2(student, teacher, heads, of=("value",), queries=queries)


def minilmv2(
    student: Measurable,
    teacher: Measurable,
    heads: int | None = None,
    *,
    of: Iterable[str] = ("query", "key", "value"),
    queries: Tensor | None = None,
) -> Tensor:
    """MiniLMv2's loss: the KL of a teacher's relations among queries, among keys, and among values.

    ``Σ_of mean KL(R_of(T) ‖ R_of(S))``, with :func:`relation` R. The models share neither width nor number of
    heads, only positions.

    Args:
        student: AttentionMatrix [B,H,N,N] with its values, or a call that holds one.
        teacher: the same, of another model on the same tokens.
        heads: how many relation heads both are cut into; it divides both widths. Default: as many as both
            have.
        of: which relations, of "query", "key" and "value". Default: all three.
        queries: bool [N] or [B,N], which positions count; leave padding out here. Default: all.

    Raises:
        ValueError: for numbers of heads that differ where ``heads`` says none; otherwise, with TypeError, as
            :func:`divergence` and :func:`relation`.

    Source: Wang et al. 2021, "MiniLMv2: multi-head self-attention relation distillation for compressing
    pretrained Transformers".

    Example:
        >>> import sightline, torch
        >>> student = sightline.AttentionMatrix(*torch.randn(3, 1, 2, 10, 8).requires_grad_(), detach=False)
        >>> teacher = sightline.AttentionMatrix(*torch.randn(3, 1, 12, 10, 16))
        >>> sightline.losses.minilmv2(student, teacher, heads=4).shape
        torch.Size([])
    """
    if not isinstance(of, Iterable):
        raise TypeError(f"of: expected names of relations, got {shown(of)}.")
    names = [of] if isinstance(of, str) else list(of)
    if not names:
        raise ValueError(f"of: no relation is left to compare. Give some of {', '.join(get_args(Of))}.")
    mine, other = trained(student, "student"), standing(teacher, "teacher")
    total: Tensor | None = None
    for name in names:
        of_mine, of_other = relation(mine, name, heads), relation(other, name, heads)
        if of_mine.shape[1] != of_other.shape[1]:
            raise ValueError(
                f"heads: the student has {of_mine.shape[1]} heads of the {name}, the teacher "
                f"{of_other.shape[1]}. Give a number that divides both widths."
            )
        apart = divergence(of_mine, of_other, queries=queries)
        total = apart if total is None else total + apart
    return cast(Tensor, total)


def tinybert(
    student: Measurable,
    teacher: Measurable,
    *,
    stage: str = "scaled",
    queries: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """TinyBERT's loss: the mean squared difference of the scores, pair by pair.

    ``mean over visible j of (sᵢⱼ − tᵢⱼ)²`` of each row i, with the scaled scores s of the student and t of
    the teacher before soft cap and bias, as in the paper, or their weights. Pairs that the student may not
    see are left out. Memory is linear in the sequence.

    Args:
        student: AttentionMatrix [B,H,N,M], or a call that holds one.
        teacher: the same, of another model on the same tokens. Heads must be as many, widths may differ.
        stage: "scaled" for the scores, or "weights". Default: "scaled".
        queries: bool [N] or [B,N], which queries count; leave padding out here. Default: all.
        reduction: "mean" over all rows that count, "heads" [H], or "none" [B,H,N] with 0 for the others.

    Returns:
        The loss, float32 or better.

    Raises:
        ValueError: for matrices of other shapes, another stage, a detached student while gradients are on;
            TypeError: for what is no matrix.

    Source: Jiao et al. 2020, "TinyBERT: distilling BERT for natural language understanding".

    Example:
        >>> import sightline, torch
        >>> query, key = torch.randn(2, 1, 2, 10, 4).requires_grad_()
        >>> student = sightline.AttentionMatrix(query, key, detach=False)
        >>> teacher = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 10, 16))
        >>> sightline.losses.tinybert(student, teacher).requires_grad
        True
    """
    choice("stage", stage, get_args(Stage))
    check_reduction(reduction)
    mine, other = _pair(student, teacher)
    total = mine.divergence(other, "l2") if stage == "weights" else _scores_apart(mine, other)
    counts = visible(mine).counts
    return reduced(total / counts.clamp(min=1), rows_that_see(mine, queries), reduction)


def _pair(student: Measurable, teacher: Measurable) -> tuple[AttentionMatrix, AttentionMatrix]:
    mine, other = trained(student, "student"), standing(teacher, "teacher")
    check_device("teacher", other, mine.device)
    if mine.sizes != other.sizes:
        raise ValueError(
            f"teacher: shape {list(other.sizes)} differs from the student's {list(mine.sizes)} [B,H,N,M]. "
            "Both must see the same tokens; where heads differ, losses.minilmv2 compares relations."
        )
    return mine, other


def _scores_apart(mine: AttentionMatrix, other: AttentionMatrix) -> Tensor:
    """Σ over visible keys of (s - t)², [B,H,N].

    The difference of two products is one product: of both queries side by side with both keys.
    """
    given = mine.problem
    query = torch.cat(
        [_wide(one.query) * one.problem.scale * sign for one, sign in ((mine, 1), (other, -1))], -1
    )
    key = torch.cat([_by_head(one) for one in (mine, other)], -1)
    bias = given.bias
    shown = None if bias is None or mine.only_ranges else bias.detach() > -torch.inf
    both = given.visible if shown is None or given.visible is None else given.visible & shown
    joint = Problem(query, key, None, 1.0, ranges=given.ranges, visible=shown if both is None else both)
    matrix = AttentionMatrix.of_problem(joint, None, detach=False)
    return matrix.reduce(lambda w, s, i, j: s.square())


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _by_head(matrix: AttentionMatrix) -> Tensor:
    """The keys, one for each query head."""
    key = _wide(matrix.key)
    return key if matrix.problem.group == 1 else key.repeat_interleave(matrix.problem.group, dim=1)
