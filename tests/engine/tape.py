"""A tape in a CUDA graph's place, on a CPU: it records operations with their very tensors and replays them without
Python."""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
# A GPU has to wait for what these return, so that no graph can hold them.
WAITS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2, aten.unique_consecutive}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index, aten._index_put_impl_}


def tensors(*parts):
    return [part for part in tree_leaves(parts) if isinstance(part, torch.Tensor)]


def storage(tensor):
    return tensor.untyped_storage().data_ptr()


class Tape(TorchDispatchMode):
    """Used as a context, it records. What was written to tensors from outside is then undone, as a GPU does not execute
    what it records.

    ``outside`` are the storages, by address, of tensors that were read but not made on the tape. Operations that wait
    for a GPU are refused; `tolist` and `numpy` go unnoticed, as on a CPU they are no operations.
    """

    made: list["Tape"] = []  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.calls, self.inside, self.outside, self.before, self.replays = [], {}, {}, [], 0
        Tape.made.append(self)

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        packet, keywords = function.overloadpacket, keywords or {}
        read = tensors(arguments, keywords)
        if packet in WAITS or (packet in INDEXED and any(part.dtype == torch.bool for part in tensors(arguments[1]))):
            raise RuntimeError(f"{packet}: operation not permitted when stream is capturing")
        for part in read:
            if storage(part) not in self.inside | self.outside:
                self.outside[storage(part)] = part
                whole = part.detach().as_strided((part.untyped_storage().nbytes() // part.element_size(),), (1,), 0)
                self.before.append((whole, whole.clone()))
        result = function(*arguments, **keywords)
        known = {storage(part) for part in read}
        new = [part for part in tensors(result) if storage(part) not in known]
        self.inside |= {storage(part): part for part in new}  # which keeps the address from being used again
        self.calls.append((function, arguments, keywords, result))
        return result

    def __exit__(self, *error):
        super().__exit__(*error)
        with torch.no_grad():
            for whole, values in self.before:
                whole.copy_(values)

    @torch.no_grad()
    def replay(self):
        """Execute the operations once more on the same tensors."""
        self.replays += 1
        for function, arguments, keywords, result in self.calls:
            with torch._C._AutoDispatchBelowAutograd():
                again = function(*arguments, **keywords)
                for old, new in zip(tensors(result), tensors(again), strict=True):
                    if storage(old) != storage(new):
                        old.copy_(new)


class Stream:
    def wait_stream(self, other):
        pass


def simulate(monkeypatch):
    """Give `torch.cuda` as much as recording and replaying steps needs. Returns the list of the tapes that are made."""

    @contextmanager
    def graph(tape, pool, stream):
        with tape:
            yield

    @contextmanager
    def stream(_):
        yield

    simulated = {"CUDAGraph": Tape, "Stream": Stream, "current_stream": Stream, "graph": graph, "stream": stream}
    for name, part in simulated.items():
        monkeypatch.setattr(torch.cuda, name, part)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(Tape, "made", [])
    return Tape.made
