"""Sessions on CUDA with bound memory, seqport's and ONNX Runtime's; and ONNX Runtime's own without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqport.pipeline.bench.cases import Case, Inputs, Network
from seqport.pipeline.bench.contestants.entry import Prepared
from seqport.pipeline.bench.contestants.sessions import OfRun, artifact_path
from seqport.runtime import Session, cuda

# As `Session` has it: TF32 would compute with 10 bits of a float32's 23.
_PROVIDERS: Any = [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
_DEVICE = "cuda"


def open_on_cuda(path: Path) -> Any:
    """A bare session on the first GPU, after the libraries that NVIDIA's or PyTorch's wheels brought were loaded."""
    import onnxruntime

    cuda.problem(0)  # loads them, wherever they are: ONNX Runtime's `preload_dlls` looks beside itself alone
    return onnxruntime.InferenceSession(path, providers=_PROVIDERS)


class NodeCuda(OfRun):
    """The artifact, with arrays from the host and to the host."""

    def __init__(self, network: Network, folder: Path) -> None:
        session = open_on_cuda(artifact_path(folder, network))
        names = [output.name for output in session.get_outputs()]
        super().__init__(network, lambda feed: dict(zip(names, session.run(names, dict(feed)), strict=True)))


class OwnBound:
    """`Session.bind`: the caller writes into page-locked arrays and reads from them; the copies are timed."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.session = Session(artifact_path(folder, network), "cuda")

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        """Lay the inputs out in the binding's own arrays."""
        del case
        binding = self.session.bind({"x": inputs.x, "lengths": inputs.lengths})
        return Prepared(binding.run, lambda: binding.run()["y"][inputs.valid])


class OnDevice:
    """The artifact with inputs and outputs that stay on the device."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.session = open_on_cuda(artifact_path(folder, network))

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        """Lay the inputs out on the device."""
        del case
        import onnxruntime

        binding = self.session.io_binding()
        held = [onnxruntime.OrtValue.ortvalue_from_numpy(array, _DEVICE, 0) for array in (inputs.x, inputs.lengths)]
        for name, value in zip(("x", "lengths"), held, strict=True):
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("y", _DEVICE, 0)

        def call() -> object:
            self.session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return held  # what is bound must live as long as the call

        def answer() -> Any:
            call()
            return binding.copy_outputs_to_cpu()[0][inputs.valid]

        return Prepared(call, answer)
