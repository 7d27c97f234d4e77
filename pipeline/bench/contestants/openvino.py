"""OpenVINO on the same artifact, computing in float32 like everybody else."""

from __future__ import annotations

from pathlib import Path

from seqport.pipeline.bench.cases import Network
from seqport.pipeline.bench.contestants.sessions import Arrays, OfRun, artifact_path


class Compiled(OfRun):
    """The artifact compiled for the CPU, with one request that is used again and again."""

    def __init__(self, network: Network, folder: Path) -> None:
        import openvino

        # Where the processor has bfloat16, OpenVINO would compute in it by default.
        config = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(str(artifact_path(folder, network)), "CPU", config)
        request = compiled.create_infer_request()
        names = [output.get_any_name() for output in compiled.outputs]

        def run(feed: object) -> Arrays:
            results = request.infer(feed, share_inputs=True)
            return {name: results[index] for index, name in enumerate(names)}

        super().__init__(network, run)
