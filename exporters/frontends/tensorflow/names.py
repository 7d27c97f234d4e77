"""Names that differ between a graph and the functions in it, which tf2onnx takes for one another.

The body of a `While` is a function with a name space of its own: its `Shape_1` is another one than the graph's. tf2onnx
writes both into one name space and, where a loop's body computes what the graph computes too, joins them.
"""

from __future__ import annotations

from typing import Any


def names_apart(graph_def: Any) -> Any:
    """The graph, every operation inside of its functions named after the function."""
    scopes: set[str] = set()
    for function in graph_def.library.function:
        # No operation of a graph begins with an underscore.
        scope = f"in_{function.signature.name.lstrip('_')}"
        while scope in scopes:
            scope += "_"
        scopes.add(scope)
        nodes = {node.name: f"{scope}/{node.name}" for node in function.node_def}
        for node in function.node_def:
            node.name = nodes[node.name]
            node.attr.pop("_class", None)  # "near that operation", by its old name
            node.input[:] = [_renamed(name, nodes) for name in node.input]
        for returned in (function.ret, function.control_ret):
            for key in list(returned):
                returned[key] = _renamed(returned[key], nodes)
    return graph_def


def _renamed(name: str, nodes: dict[str, str]) -> str:
    """The name of an operation's output (operation:output:0), of a control input (^operation) or of an argument."""
    mark, plain = ("^", name[1:]) if name.startswith("^") else ("", name)
    operation, colon, rest = plain.partition(":")
    return f"{mark}{nodes.get(operation, operation)}{colon}{rest}"
