"""Where and how steps are computed: devices, engines, threads and precision."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache

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
            return "bfloat16 activations" + ", compiled" * self.compiled
        return "TensorFloat-32" if self.bfloat16 and device.type == "cuda" else "float32"


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
    """The engine of that name: ``plain``, ``fast``, or ``auto``, which is fast on a GPU and plain on a CPU.

    A GPU that only emulates bfloat16 computes in float32 instead, with a warning.
    """
    engines = {"plain": PLAIN, "fast": FAST, "auto": FAST if device.type == "cuda" else PLAIN}
    if engine not in engines:
        raise ConfigError(f"engine = {engine!r}: unknown; allowed: {', '.join(engines)}")
    found = engines[engine]
    if found.bfloat16 and device.type == "cuda" and not _has_bfloat16(device):
        warnings.warn(f"{device} has no bfloat16 arithmetic: the fast engine computes in float32 there", stacklevel=2)
        return replace(found, bfloat16=False)
    return found


def _has_bfloat16(device: torch.device) -> bool:
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def without_compiler(engine: Engine, device: torch.device) -> Engine:
    """The engine; without compilation, and with a warning that says why, if nothing can be compiled for the device."""
    if engine.compiled and (fault := _compiler_fault(device.type)):
        warnings.warn(f"nothing can be compiled for {device}, training is slower without: {fault}", stacklevel=2)
        return replace(engine, compiled=False)
    return engine


@cache
def _compiler_fault(kind: str) -> str:
    """Why PyTorch can compile nothing for that kind of device, found by trial; empty if it can.

    It needs a C++ compiler for a CPU, and for a GPU Triton, a C compiler and Python's header files.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=kind))
    except Exception as error:  # each compiler has faults of its own
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return ""


def evaluation_batch(device: torch.device) -> int:
    """How many images are evaluated at a time: so many that they fit a processor's cache, or keep a GPU busy."""
    return 1000 if device.type == "cuda" else 192


@contextmanager
def settings(device: torch.device, engine: Engine = PLAIN) -> Iterator[None]:
    """PyTorch's global settings for work on a device, restored afterwards.

    A CPU gets one thread: that is faster beside a busy process, and gives the same numbers on any number of cores. On a
    GPU, matrix products are in float32 with the plain engine and in TensorFloat-32 with the fast one, which also times
    cuDNN's algorithms for each shape of batch and takes the fastest.
    """
    cudnn = torch.backends.cudnn
    before = torch.get_num_threads(), torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    if device.type == "cpu":
        torch.set_num_threads(1)
    else:
        torch.set_float32_matmul_precision("high" if engine.bfloat16 else "highest")
        cudnn.allow_tf32, cudnn.benchmark = engine.bfloat16, engine.graphed
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
        cudnn.allow_tf32, cudnn.benchmark = before[2:]
