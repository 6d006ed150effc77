"""Where and how steps are computed: devices, engines, threads and precision."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch

from dsdlib.config import ConfigError


@dataclass(frozen=True)
class Engine:
    """How training steps are computed. No choice changes what is computed, except for rounding."""

    sparse: bool = True  # on a CPU, train sparse layers of fully connected networks with sparse matrix products
    bfloat16: bool = False  # bfloat16 activations in convolutional networks; weights and updates stay float32
    compiled: bool = False  # compile convolutional networks with torch.compile
    graphed: bool = False  # on a GPU, replay steps as CUDA graphs

    def described(self, convolutional: bool, device: torch.device) -> str:
        """The arithmetic that such a network gets on such a device, in words, for the provenance."""
        if self.bfloat16 and convolutional:
            return "bfloat16 activations, compiled"
        return "TensorFloat-32" if self != PLAIN and device.type == "cuda" else "float32"


PLAIN, FAST = Engine(), Engine(bfloat16=True, compiled=True, graphed=True)


def resolve_device(device: str) -> torch.device:
    """The device of that name; ``auto`` is the first GPU, or the CPU if there is no GPU.

    Raises `ConfigError` for a device that this machine does not have.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    allowed = ["auto", "cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if device not in (*allowed, *(["cuda"] if len(allowed) > 2 else [])):
        raise ConfigError(f"device = {device!r}: not on this machine; allowed: {', '.join(allowed)}")
    return torch.device(device)


def resolve_engine(engine: str, device: torch.device) -> Engine:
    """The engine of that name: ``plain``, ``fast``, or ``auto``, which is fast on a GPU and plain on a CPU."""
    engines = {"plain": PLAIN, "fast": FAST, "auto": FAST if device.type == "cuda" else PLAIN}
    if engine not in engines:
        raise ConfigError(f"engine = {engine!r}: unknown; allowed: {', '.join(engines)}")
    return engines[engine]


@contextmanager
def settings(device: torch.device, engine: Engine = PLAIN) -> Iterator[None]:
    """PyTorch's global settings for work on a device, restored afterwards.

    A CPU gets one thread: that is faster beside a busy process, and gives the same numbers on any number of cores. On a
    GPU, matrix products are in float32 with the plain engine and in TensorFloat-32 with the fast one.
    """
    before = torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    if device.type == "cpu":
        torch.set_num_threads(1)
    else:
        torch.set_float32_matmul_precision("high" if engine.bfloat16 else "highest")
        torch.backends.cudnn.allow_tf32 = engine.bfloat16
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
        torch.backends.cudnn.allow_tf32 = before[2]
