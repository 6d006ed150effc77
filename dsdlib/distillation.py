"""Knowledge distillation's loss (DSD2, section 3), and its gradient by the logits."""

from torch import Tensor
from torch.nn.functional import kl_div, log_softmax


def distillation_loss(student: Tensor, teacher: Tensor, temperature: Tensor) -> Tensor:
    """T²·KL(teacher/T ‖ student/T), summed over classes and averaged over the batch, a value a run.

    Logits are (runs, n, classes), the temperature (runs,). It is what `torch.nn.functional.kl_div(log student,
    teacher, reduction="batchmean")` computes, times T², which keeps the gradient's size whatever T is.
    """
    scale = temperature.view(-1, 1, 1)
    divergence = kl_div(
        log_softmax(student / scale, 2), log_softmax(teacher / scale, 2), reduction="none", log_target=True
    )
    return temperature**2 * divergence.sum(2).mean(1)


def distillation_gradient(student: Tensor, teacher: Tensor, temperature: Tensor) -> Tensor:
    """The gradient of `distillation_loss` by the student's logits: T·(softmax(student/T) − softmax(teacher/T)) / n.

    Here logits are (runs, classes, n), and so is the gradient.
    """
    scale = temperature.view(-1, 1, 1)
    return (softmax(student / scale) - softmax(teacher / scale)).mul_(scale / student.shape[2])


def softmax(logits: Tensor) -> Tensor:
    """Over dimension 1 of (runs, classes, n). PyTorch's own is slow with few classes in the last dimension, and in
    another does not give a run the same last bits in every stack."""
    powers = (logits - logits.amax(1, keepdim=True)).exp_()
    return powers.div_(powers.sum(1, keepdim=True))
