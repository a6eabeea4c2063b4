"""CUDA graphs: a computation is recorded once and replayed without the cost of its launches.

On a GPU a step of a chain is some hundred kernels of a few microseconds each, and
it is their launching that takes the time.  A captured graph launches them at once.

What can be captured is static: every call does the same operations on the same
shapes, and the host reads no tensor on the way.  That is not believed but looked
at, by writing down the operations of two calls; so the check also runs, and is
tested, without a GPU.

Imports: torch only.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Parts = dict[str, Tensor]
LOOK_EVERY = 32  # calls: a traced one takes some times as long as another

_replayed = contextvars.ContextVar("replayed", default=False)
_aten = torch.ops.aten
_READS = {_aten._local_scalar_dense, _aten.nonzero, _aten.masked_select, _aten.equal, _aten.unique_dim, _aten._unique2}


def host_may_look() -> bool:
    """Say whether the code that runs may read tensors on the host: not in what is to be replayed."""
    return not _replayed.get()


@contextlib.contextmanager
def to_be_replayed() -> Iterator[None]:
    """Run code as it will be captured: `host_may_look` is false within."""
    before = _replayed.set(True)
    try:
        yield
    finally:
        _replayed.reset(before)


class Trace(TorchDispatchMode):
    """Write down the operations of a computation, those of its backward passes among them.

    Attributes:
        operations: Each with its numbers and the shapes of its tensors; equal
            lists mean that the two computations differ in their tensors' values only.
        reads: Names of operations that wait for the device and tell the host a value.
        generators: Addresses of those that random numbers came from, but for torch's own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, ...]] = []
        self.reads: list[str] = []
        self.generators: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func.namespace == "profiler":  # marks for a profiler, such as zero_grad's: a new handle at every call
            return result
        if _reads(func, args, result):
            self.reads.append(str(func))
        self.generators |= {
            value._cdata for value in (*args, *kwargs.values()) if isinstance(value, torch.Generator)
        }  # a wrapper of its own at every call
        self.operations.append((func, _signature(args), _signature(kwargs)))
        return result


class Replayed:
    """A function of tensors to a dictionary of tensors that runs as a CUDA graph once it proves static.

    The function runs as it is at first.  Its calls number 1, 2, 4, 8, 16, 32 and every 32nd
    from then on are traced, and after two equal traces without reads the next call captures
    it: a replay buffer that is still filling only puts the moment off.  Inputs of another shape end that: from
    then on, as always on a CPU, the function runs as it is.

    What the function changes in place (buffers, gradients it has allocated) a replay
    changes, too; what it returns is copied.  Tensors it uses besides its inputs keep
    their memory for as long as this object lives: load weights with load_state_dict.
    What it keeps on the host is what it was when captured: build a new object when
    something sets that back, as an earlier state of a replay buffer does.

    Args:
        function: Draws random numbers from `generator` or torch's default one only.
        generator: On the device.

    Raises:
        RuntimeError: At the call that captures: CUDA cannot hold this in a graph.
    """

    def __init__(self, function: Callable[..., Parts], generator: torch.Generator | None = None) -> None:
        self.function, self.generator = function, generator
        self.captured = False
        self._names: tuple[str, ...] | None = None
        self._calls = 0
        self._trace: Trace | None = None
        self._static = self._over = False
        self._inputs: tuple[Tensor | None, ...] = ()
        self._outputs: Parts = {}

    def __call__(self, *inputs: Tensor | None, **named: Tensor) -> Parts:
        """Return the function's result for these inputs, given by place or by name."""
        if named:
            names = tuple(named)
            if self._names is None:
                self._names = names
                function = self.function
                self.function = lambda *values: function(**dict(zip(names, values, strict=True)))
            inputs = tuple(named[name] for name in self._names)
        device = next(x.device for x in inputs if x is not None)
        if device.type != "cuda":
            return self._run(inputs)
        with torch.cuda.device(device):
            if not self._calls:
                self._stream = torch.cuda.Stream()  # one for all calls: what is captured may not meet another's work
            if self.captured and _shapes(inputs) != _shapes(self._inputs):
                self.captured, self._over, self._graph = False, True, None  # its gradients' memory is read no more
            if self._static and not self.captured and not self._over:
                self._capture(inputs)
            if self.captured:
                for kept, new in zip(self._inputs, inputs, strict=True):
                    if kept is not None:
                        kept.copy_(new)
                self._graph.replay()
                return {name: value.clone() for name, value in self._outputs.items()}
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                result = self._run(inputs)
            torch.cuda.current_stream().wait_stream(self._stream)
            return result

    def _run(self, inputs: tuple[Tensor | None, ...]) -> Parts:
        """Call the function, and look at some calls whether it is static."""
        self._calls += 1
        with to_be_replayed():
            looked_at = not (self._calls & (self._calls - 1) if self._calls < LOOK_EVERY else self._calls % LOOK_EVERY)
            if self._static or not looked_at:
                return self.function(*inputs)
            with Trace() as trace:
                result = self.function(*inputs)
        last, self._trace = self._trace, trace
        own = trace.generators <= {getattr(self.generator, "_cdata", None)}
        self._static = last is not None and last.operations == trace.operations and own and not trace.reads
        return result

    def _capture(self, inputs: tuple[Tensor | None, ...]) -> None:
        self._inputs = tuple(None if x is None else x.clone() for x in inputs)
        self._graph = torch.cuda.CUDAGraph()
        if self.generator is not None:
            self._graph.register_generator_state(self.generator)
        try:
            with (
                to_be_replayed(),
                torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                self._outputs = self.function(*self._inputs)
        except RuntimeError as error:  # generators and streams may be left in the middle: no going on from here
            raise RuntimeError(
                f"a CUDA graph expects what the device can record, got: {error}; run without one: graph='off'."
            ) from error
        self.captured = True


def _shapes(tensors: tuple[Tensor | None, ...]) -> list[Any]:
    return [None if x is None else (x.shape, x.dtype) for x in tensors]


def _reads(func: Any, args: tuple[Any, ...], result: Any) -> bool:
    if func.overloadpacket in _READS:
        return True
    if func.overloadpacket in (_aten.index, _aten.index_put, _aten.index_put_):  # by a mask: counts its entries
        return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
    moved = func.overloadpacket in (_aten._to_copy, _aten.copy_)
    return moved and len({x.device.type for x in (*args[:2], result) if isinstance(x, Tensor)}) > 1


def _signature(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape), value.stride(), value.dtype, value.device
    if isinstance(value, list | tuple):
        return tuple(_signature(item) for item in value)
    if isinstance(value, dict):
        return tuple((name, _signature(item)) for name, item in sorted(value.items()))
    return "generator" if isinstance(value, torch.Generator) else repr(value)
