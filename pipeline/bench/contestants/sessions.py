"""Sessions on the CPU: seqport's own, and ONNX Runtime's on the same artifact and on tf2onnx's Loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from seqport.pipeline.bench.cases import Case, Inputs, Network
from seqport.pipeline.bench.contestants.entry import Answer, Prepared
from seqport.pipeline.bench.contestants.streams import checked_steps, gathered
from seqport.runtime import Session

Arrays = dict[str, np.ndarray]
Run = Callable[[Mapping[str, np.ndarray]], Arrays]


def artifact_path(folder: Path, network: Network) -> Path:
    """Where seqport's export of a network stands."""
    return folder / f"{network.key}.onnx"


def loop_path(folder: Path, network: Network) -> Path:
    """Where tf2onnx's export of a network stands."""
    return folder / f"{network.key}.loop.onnx"


def zero_state(network: Network, batch: int) -> Arrays:
    """The state that a stream begins with."""
    shape = (network.directions, batch, network.num_hidden_units)
    names = ("h_0", "c_0") if network.cell == "lstm" else ("h_0",)
    return {name: np.zeros(shape, np.float32) for name in names}


class OfRun:
    """What every contestant does that takes a dict of arrays and gives one."""

    def __init__(self, network: Network, run: Run) -> None:
        self.network = network
        self.run = run

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        """Lay the inputs out."""
        if case.kind == "stream":
            return self._prepare_stream(inputs)
        feed = {"x": inputs.x, "lengths": inputs.lengths}
        return Prepared(lambda: self.run(feed), lambda: self.run(feed)["y"][inputs.valid])

    def _prepare_stream(self, inputs: Inputs) -> Prepared:
        def stepper() -> Callable[[np.ndarray], np.ndarray]:
            state = zero_state(self.network, len(inputs.x))

            def step(x: np.ndarray) -> np.ndarray:
                outputs = self.run({"x": x, **state})
                state.update({name: outputs[f"{name[0]}_T"] for name in state})
                return outputs["y"]

            return step

        x, step = inputs.x, stepper()
        return Prepared(lambda: step(x), lambda: gathered(map(stepper(), checked_steps(x))))


class Own(OfRun):
    """`Session.run`, and `Session.predict` of a list, as they come."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.session = Session(artifact_path(folder, network), "cpu")
        super().__init__(network, self.session.run)

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        """Lay the inputs out."""
        if case.kind != "list":
            return super().prepare(case, inputs)
        items = inputs.items

        def answer() -> Answer:
            return np.concatenate([out["y"] for out in self.session.predict(items)])

        return Prepared(lambda: list(self.session.predict(items)), answer)


class OnNodes(OfRun):
    """`Session.run` of a session without seqport's operators: ONNX Runtime's nodes, packed where that pays."""

    def __init__(self, network: Network, folder: Path) -> None:
        session = Session(artifact_path(folder, network), "cpu", kernels="onnxruntime")
        super().__init__(network, session.run)


class OwnStream:
    """`Session.stream()`, which carries the state itself."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.session = Session(artifact_path(folder, network), "cpu")

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        """Lay the inputs out."""
        del case  # a stream is always the same
        x, stream = inputs.x[0], self._push()
        return Prepared(lambda: stream(x), lambda: gathered(map(self._push(), checked_steps(inputs.x)[:, 0])))

    def _push(self) -> Callable[[np.ndarray], np.ndarray]:
        stream = self.session.stream()
        return lambda chunk: stream.push(chunk)["y"]


class Node(OfRun):
    """ONNX Runtime's own session on the artifact: the native node over the padded batch."""

    def __init__(self, network: Network, folder: Path) -> None:
        super().__init__(network, plain_run(artifact_path(folder, network)))


class Loop(OfRun):
    """ONNX Runtime on what tf2onnx makes of the masked Keras layer."""

    def __init__(self, network: Network, folder: Path) -> None:
        super().__init__(network, plain_run(loop_path(folder, network)))


class OwnCuda(OfRun):
    """`Session.run` on a GPU; arrays come from the host and go back to it."""

    def __init__(self, network: Network, folder: Path) -> None:
        super().__init__(network, Session(artifact_path(folder, network), "cuda").run)


def plain_run(path: Path, provider: str = "CPUExecutionProvider") -> Run:
    """A bare session's `run`, with ONNX Runtime's own defaults."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=[provider])
    names = [output.name for output in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(names, dict(feed)), strict=True))  # type: ignore[arg-type]
