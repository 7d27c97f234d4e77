"""Rewrites a loaded graph for the machine that runs it; the file stays as it is. Needs `onnx`."""
