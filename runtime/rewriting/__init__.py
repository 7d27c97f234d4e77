"""Rewrites a loaded graph for the machine that runs it; the file stays as it is. Needs `onnx`.

A rewrite is a pass over an `onnx.ModelProto`: `packing` makes recurrent nodes skip the padding.
"""
