"""The distillation loss against PyTorch's own functions, and its gradient against autograd."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from dsdlib.distillation import distillation_gradient, distillation_loss, student_loss
from dsdlib.distillation import softmax as stacked_softmax

TEMPERATURES = torch.tensor([1.0, 4.0, 10.0], dtype=torch.float64)


def logits(*shape, seed=0):
    return 5 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def torchs(student, teacher, temperature):
    """The loss of one run, by PyTorch's own function."""
    log_student, soft_teacher = log_softmax(student / temperature, 1), softmax(teacher / temperature, 1)
    return temperature**2 * kl_div(log_student, soft_teacher, reduction="batchmean")


@given(st.integers(1, 9), st.integers(2, 12), st.floats(0.5, 50), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_the_loss_of_plain_logits_is_torchs_kl_div_and_cross_entropy_in_value_and_gradient(n, classes, t, alpha, seed):
    student, teacher = logits(2, n, classes, seed=seed)
    labels = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
    student.requires_grad_()
    ours = distillation_loss(student, teacher, t), student_loss(student, teacher, labels, alpha, t)
    soft = torchs(student, teacher, t)
    expected = soft, alpha * soft + (1 - alpha) * cross_entropy(student, labels)
    for mine, its in zip(ours, expected, strict=True):
        assert mine.shape == ()
        torch.testing.assert_close(mine, its, atol=1e-12, rtol=1e-10)
        gradients = [torch.autograd.grad(loss, student, retain_graph=True)[0] for loss in (mine, its)]
        torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-10)


def test_the_loss_of_a_stack_is_each_runs_own():
    student, teacher = logits(2, 3, 7, 10)
    labels = torch.randint(10, (3, 7), generator=torch.Generator().manual_seed(0))
    alpha = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    found = student_loss(student, teacher, labels, alpha, TEMPERATURES)
    runs = zip(student, teacher, labels, alpha.tolist(), TEMPERATURES.tolist(), strict=True)
    torch.testing.assert_close(found, torch.stack([student_loss(*run) for run in runs]))
    torch.testing.assert_close(found[0], cross_entropy(student[0], labels[0]))
    torch.testing.assert_close(found[2], torchs(student[2], teacher[2], 10.0))
    one = distillation_loss(student, teacher, 4.0)  # a number is every run's
    torch.testing.assert_close(one, torch.stack([torchs(s, u, 4.0) for s, u in zip(student, teacher, strict=True)]))


def test_the_written_out_gradient_is_autograds():
    student, teacher = logits(2, 3, 7, 10)
    student.requires_grad_()
    loss = distillation_loss(student, teacher, TEMPERATURES)
    (expected,) = torch.autograd.grad(loss.sum(), student)
    torch.testing.assert_close(distillation_gradient(student.mT, teacher.mT, TEMPERATURES).mT, expected)


def test_a_student_like_its_teacher_has_no_loss_and_by_hand_the_loss_is_the_divergence():
    student, teacher = logits(2, 3, 7, 10)
    assert distillation_loss(teacher, teacher, TEMPERATURES).abs().max() < 1e-12
    assert (distillation_loss(student, teacher, TEMPERATURES) > 0.01).all()
    even, sure = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])  # probabilities 1/2, 1/2 and 3/4, 1/4
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert distillation_loss(even, sure, 1.0).item() == pytest.approx(divergence, rel=1e-6)
    assert student_loss(even, sure, torch.tensor([0]), 0.8, 1.0).item() == pytest.approx(
        0.8 * divergence + 0.2 * math.log(2), rel=1e-6
    )


def test_at_a_high_temperature_the_gradient_keeps_its_size():
    """Hinton et al. 2015, section 2.1: for large T it tends to the difference of the centred logits / classes."""
    student, teacher = logits(2, 1, 7, 10)
    student, teacher = (part - part.mean(2, keepdim=True) for part in (student, teacher))
    gradient = distillation_gradient(student.mT, teacher.mT, torch.tensor([1e5], dtype=torch.float64)).mT
    torch.testing.assert_close(gradient, (student - teacher) / 10 / 7, rtol=1e-3, atol=1e-5)


def test_the_stacks_softmax_is_torchs_even_for_large_logits():
    x = torch.cat([logits(2, 5, 7), 1e4 * logits(2, 5, 7, seed=1)])
    torch.testing.assert_close(stacked_softmax(x), softmax(x, 1))
