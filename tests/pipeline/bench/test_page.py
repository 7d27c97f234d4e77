"""The page says what was measured where, who was faster, who was wrong, and draws the same picture twice."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from seqport.pipeline.bench import machine, quick
from seqport.pipeline.bench.cases import Case, Network
from seqport.pipeline.bench.page import page, summary
from seqport.pipeline.bench.sections import Run

LSTM = Network("lstm", 256)
NODE, LIMIT = "ONNX Runtime", "sgemm (PyTorch)"


@pytest.fixture
def run(outcome):
    batches = [
        outcome(
            Case(LSTM, batch=batch, fill=fill),
            {"OpenVINO": f"wrong answers at valid steps: off by 0.{batch}"},
            **{"seqport": 2.0 * batch, NODE: (3.0 * batch, 4.0 * batch, 4.8 * batch), LIMIT: 1.6 * batch},
        )
        for batch in (8, 32)
        for fill in (1.0, 0.6)
    ]
    stream = outcome(
        Case(Network("lstm", 64, with_state=True), "stream", steps=1), **{"seqport": 0.02, "PyTorch packed": 0.05}
    )
    rows = outcome(Case(LSTM, "list", 512, 400, 0.18), **{"seqport": 70.0, "fixed buckets": 60.0})
    described = {**machine.describe(), "processor": "Abacus 3000", "variables": {"OMP_NUM_THREADS": "7"}}
    return Run([*batches, stream, rows], 0, described, ["2026-01-02"], "make bench", "benchmarks")


def test_the_page_says_where_it_was_measured(run):
    text, _ = page(run)
    assert text.startswith("# Speed, side by side\n\nWritten by `make bench` on 2026-01-02.")
    assert "- **Machine**: Abacus 3000, " in text and "own choice, OMP_NUM_THREADS=7." in text
    assert "- **Others** took 1.0% of the machine in the median case" in text
    # 2 * (64 + 256) * 1024 operations for each of 100 steps of 8 rows in 12.8 ms
    assert "- **sgemm** reached 41 GFLOP/s at best, " in text
    assert "A part of the grid" not in text
    partial, _ = page(replace(run, missing=3))
    assert "**A part of the grid**: 3 of its cases were not measured. `make bench` measures all." in partial


def test_ratios_are_by_fill_and_the_limit_counts_from_32_rows(run):
    lines = page(run)[0].splitlines()
    assert "|  | ONNX Runtime | OpenVINO | seqport ÷ limit |" in lines
    assert "| LSTM, unidirectional, 60% valid | 2.00 (2–2) | – | 1.25 |" in lines


def test_numbers_have_their_spread_and_the_fastest_is_bold(run):
    lines = page(run)[0].splitlines()
    assert "| H | B | valid | limit | seqport | ONNX Runtime | OpenVINO |" in lines
    assert "| 256 | 8 | 60% | 12.8 ±0% | **16.0 ±0%** | 32.0 ±11% | *wrong* |" in lines


def test_losses_are_listed_one_by_one(run):
    text = summary(run)
    assert "In 1 of 6 cases somebody was faster by more than 3%" in text
    assert "- LSTM, lists: H=256 B=512 T=400 18% (fixed buckets 1.17×)." in text
    assert "- LSTM, unidirectional" not in text


def test_a_loss_within_the_noise_is_none_and_the_limit_is_nobody(run, outcome):
    near = outcome(Case(LSTM), **{"seqport": 1.02, NODE: 1.0, LIMIT: 0.5})
    assert "In 0 of 1 cases" in summary(replace(run, outcomes=[near]))
    far = outcome(Case(LSTM), **{"seqport": 1.04, NODE: 1.0, LIMIT: 0.5})
    assert "H=256 B=1 100% (ONNX Runtime 1.04×)" in summary(replace(run, outcomes=[far]))


def test_who_was_not_timed_and_why(run):
    assert "- OpenVINO, 4 cases: wrong answers at valid steps" in page(run)[0].splitlines()


def test_streams_are_in_microseconds_and_pytorch_is_not_packed_there(run):
    lines = page(run)[0].splitlines()
    at = lines.index("|  | seqport | PyTorch |")
    assert lines[at + 2] == "| LSTM H=64 | **20.0 ±0%** | 50.0 ±0% |"


def test_every_key_of_the_quick_form_is_described(run):
    text, _ = page(run)
    assert all(f"| `{name}` | {key.said} |" in text for name, key in quick.keys().items())


def test_pictures_are_linked_drawn_and_the_same_twice(run):
    text, drawn = page(run)
    assert set(drawn) == {"lstm-uni.svg", "streams.svg"}
    for name, picture in drawn.items():
        assert f"](benchmarks/{name})" in text
        root = ElementTree.fromstring(picture)
        said = " ".join(root.itertext())
        assert "seqport" in said and (NODE in said or "PyTorch" in said)
    assert page(run)[1] == drawn


def test_the_gpu_page_says_so_and_leaves_the_quick_form_out(run, outcome):
    times = {"seqport (CUDA)": 1.0, "cuDNN packed": 2.0, "PyTorch packed": 3.0}
    on_gpu = outcome(Case(LSTM), **times, **{"seqport (bound)": 0.5, "cuDNN packed (device)": 0.5})
    text, drawn = page(replace(run, outcomes=[on_gpu], on_gpu=True, command="make gpu"))
    assert text.startswith("# Speed, side by side on a GPU") and "Checks for regressions" not in text
    cells = "3.00 (3–3) | 0.50 (0.5–0.5) | 2.00 (2–2) | 0.50 (0.5–0.5) | – |"
    assert f"| LSTM, unidirectional, 100% valid | {cells}" in text
    assert "In 0 of 1 cases somebody was faster" in text, "neither seqport's own nor who stays on the device"
    assert "## Milliseconds" in text and "/lstm-uni.svg)" in text
    assert {*re.findall(">(seqport[^<]*|cuDNN[^<]*|PyTorch[^<]*)<", drawn["lstm-uni.svg"])} == {
        *times,
        "seqport (bound)",
    }


def test_a_page_without_numbers_says_so(run):
    text, drawn = page(replace(run, outcomes=[], missing=231, dates=[]))
    assert text.startswith("# Speed, side by side\n\n**Not measured yet**: `make bench` writes the numbers here.\n")
    assert "Where seqport is not the fastest" not in text and "All numbers" not in text and not drawn
    assert "| `run_overhead_us` |" in text
