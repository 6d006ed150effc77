"""Knowledge distillation: its loss (DSD2, section 3) and the gradient of that loss with respect to the logits."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """T²·KL(teacher/T ‖ student/T), summed over the classes and averaged over the batch.

    Logits are (n, classes), and T is a number; the loss is then a scalar. For several runs at once logits are
    (runs, n, classes), T is a number or (runs,), and the loss is (runs,). It is `torch.nn.functional.kl_div` with the
    reduction ``batchmean``, times T²; this factor keeps the size of the gradient independent of T.
    """
    temperature = torch.as_tensor(temperature, dtype=student.dtype, device=student.device)
    scale = temperature.view(*temperature.shape, 1, 1)
    divergence = kl_div(
        log_softmax(student / scale, -1), log_softmax(teacher / scale, -1), reduction="none", log_target=True
    )
    return temperature**2 * divergence.sum(-1).mean(-1)


def student_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    alpha: float | Tensor = 0.8,
    temperature: float | Tensor = 10.0,
) -> Tensor:
    """α·T²·KL(teacher/T ‖ student/T) + (1 − α)·cross-entropy with the labels (DSD2, section 3).

    ``labels`` are (n,) for logits (n, classes), or (runs, n) for (runs, n, classes). All else is as for
    `distillation_loss`; α may be a number or (runs,), too. The defaults of α and T are those of the paper.

    >>> teacher, student = torch.nn.Linear(8, 5), torch.nn.Linear(8, 5)
    >>> x, labels = torch.randn(64, 8), torch.randint(5, (64,))
    >>> with torch.no_grad():
    ...     teacher_logits = teacher(x)
    >>> loss = student_loss(student(x), teacher_logits, labels, alpha=0.8, temperature=10.0)
    >>> loss.backward()
    >>> loss.shape, student.weight.grad.shape
    (torch.Size([]), torch.Size([5, 8]))
    """
    hard = cross_entropy(student.movedim(-1, 1), labels, reduction="none").mean(-1)
    return alpha * distillation_loss(student, teacher, temperature) + (1 - alpha) * hard


def distillation_gradient(student: Tensor, teacher: Tensor, temperature: Tensor) -> Tensor:
    """d`distillation_loss`/d(student's logits) = T·(softmax(student/T) − softmax(teacher/T)) / n.

    Here logits are (runs, classes, n), and so is the gradient; the temperature is (runs,).
    """
    scale = temperature.view(-1, 1, 1)
    return (softmax(student / scale) - softmax(teacher / scale)).mul_(scale / student.shape[2])


def softmax(logits: Tensor) -> Tensor:
    """The softmax over dimension 1 of (runs, classes, n).

    PyTorch's own is slow for few classes in the last dimension; over another dimension, the last bits of its results
    for one run depend on the other runs in the stack.
    """
    powers = (logits - logits.amax(1, keepdim=True)).exp_()
    return powers.div_(powers.sum(1, keepdim=True))
