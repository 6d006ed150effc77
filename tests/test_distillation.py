"""The distillation loss and its gradient against PyTorch's own functions."""

import torch
from torch.nn.functional import kl_div, log_softmax, softmax

from dsdlib.distillation import distillation_gradient, distillation_loss


def test_distillation_loss_is_torchs_kl_div_times_the_squared_temperature_in_value_and_gradient():
    generator = torch.Generator().manual_seed(0)
    student, teacher = 5 * torch.randn(2, 3, 7, 10, generator=generator, dtype=torch.float64)
    student.requires_grad_()
    temperature = torch.tensor([1.0, 4.0, 10.0], dtype=torch.float64)
    loss = distillation_loss(student, teacher, temperature)
    expected = torch.stack(
        [
            t**2 * kl_div(log_softmax(s / t, 1), softmax(u / t, 1), reduction="batchmean")
            for s, u, t in zip(student, teacher, temperature, strict=True)
        ]
    )
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=1e-10)
    ours, theirs = (torch.autograd.grad(total.sum(), student, retain_graph=True)[0] for total in (loss, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(distillation_gradient(student.mT, teacher.mT, temperature).mT, ours)
    assert distillation_loss(teacher, teacher, temperature).abs().max() < 1e-12
