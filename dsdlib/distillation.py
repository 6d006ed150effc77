"""Knowledge distillation's loss (DSD2, section 3)."""

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
