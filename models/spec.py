"""What a model is: one frozen description in the notation's names, read from and written to TOML."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

from seqport.models.errors import SpecError
from seqport.models.part import Activation, Cell, OutputFunction, Part, ResetGate

Strategy = Literal["one_to_one", "one_to_many", "many_to_one", "many_to_many", "encoder_decoder"]

_CHOICES = {
    "cell": get_args(Cell),
    "strategy": get_args(Strategy),
    "output": get_args(OutputFunction),
    "activation": get_args(Activation),
    "reset_gate": get_args(ResetGate),
}
_SIZES = ("input_dim", "num_hidden_units", "out_dim", "seq_max_len", "num_layers")
_SWITCHES = ("bidirectional", "initial_state")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A recurrent network, whole: h_t = f(W_hh h_{t-1} + W_hx x_t + b_h), o_t = g(W_oh h_t + b_o).

    X is [batch, seq, input_dim], zero-padded to at most seq_max_len steps, or token ids [batch, seq].

    Attributes:
        cell: the recurrent cell, of `num_hidden_units` units.
        input_dim: features of one step; with `vocab_size`, the width of the embedding.
        out_dim: the size of o_t.
        strategy: how the network is fed. `one_to_one` a single step; `one_to_many` one input, then its own
            outputs; `many_to_one` the output from the last state; `many_to_many` an output at each step;
            `encoder_decoder` two networks, of which the second starts from the first's final state.
        output: the output function g; "none" for regression and for logits.
        activation: f of an "rnn".
        reset_gate: of a "gru", applied after or before the recurrent product.
        vocab_size: None for features; otherwise the input is token ids below it, through an embedding.
        initial_state: h_0 (and c_0) are inputs. Always so for `one_to_many`, which carries its state on.

    Raises:
        SpecError: a field has a value that is not allowed.
    """

    cell: Cell
    input_dim: int
    num_hidden_units: int
    out_dim: int
    seq_max_len: int
    strategy: Strategy
    output: OutputFunction = "none"
    activation: Activation = "tanh"
    reset_gate: ResetGate = "after"
    num_layers: int = 1
    bidirectional: bool = False
    vocab_size: int | None = None
    initial_state: bool = False

    def __post_init__(self) -> None:
        self._check_values()
        self._check_cell()
        self._check_strategy()
        if self.strategy == "one_to_many":
            object.__setattr__(self, "initial_state", True)

    def parts(self) -> tuple[Part, ...]:
        """The networks to build and export: "encoder" and "decoder", or the one "model"."""
        if self.strategy != "encoder_decoder":
            return (self._part("model", every_step=self.strategy in ("one_to_many", "many_to_many")),)
        encoder = self._part("encoder", every_step=False, out_dim=None, output="none")
        decoder = self._part("decoder", every_step=True, vocab_size=self.out_dim, initial_state=True)
        return encoder, decoder

    def to_toml(self) -> str:
        """The specification as TOML; a field that is None is left out."""
        values = asdict(self).items()
        return "".join(f"{name} = {_toml(value)}\n" for name, value in values if value is not None)

    @classmethod
    def from_toml(cls, text: str) -> ModelSpec:
        """Read what `to_toml` writes; fields with a default may be left out.

        Raises:
            SpecError: the text is no TOML, or a field is missing, unknown or has a value that is not allowed.
        """
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SpecError(f"the specification is no TOML: {error}") from error
        allowed = {field.name: field for field in fields(cls)}
        for name, value in values.items():
            if name not in allowed:
                _refuse(name, value, f"no such field; allowed are {', '.join(allowed)}")
        missing = [name for name, f in allowed.items() if f.default is MISSING and name not in values]
        if missing:
            raise SpecError(f"the specification lacks {', '.join(missing)}")
        return cls(**values)

    def save(self, path: str | Path) -> None:
        """Write the specification to a TOML file."""
        Path(path).write_text(self.to_toml(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> ModelSpec:
        """Read a specification from a TOML file.

        Raises:
            SpecError: the file cannot be read, or describes no model.
        """
        try:
            return cls.from_toml(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"{path} cannot be read as a specification: {error}") from error
        except SpecError as error:
            raise SpecError(f"{path}: {error}") from error

    def _part(self, name: str, **changes: Any) -> Part:
        values: dict[str, Any] = {"name": name, **asdict(self), **changes}
        del values["strategy"]
        return Part(**values)

    def _check_values(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                _refuse(name, getattr(self, name), f"allowed are {', '.join(map(repr, allowed))}")
        for name in _SIZES:
            if not _is_size(getattr(self, name)):
                _refuse(name, getattr(self, name), "allowed are integers from 1")
        if self.vocab_size is not None and not _is_size(self.vocab_size):
            _refuse("vocab_size", self.vocab_size, "allowed are integers from 1, or None for features")
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                _refuse(name, getattr(self, name), "allowed are True and False")

    def _check_cell(self) -> None:
        if self.cell != "rnn" and self.activation != "tanh":
            _refuse("activation", self.activation, f"allowed with cell {self.cell!r} is 'tanh'")
        if self.cell != "gru" and self.reset_gate != "after":
            _refuse("reset_gate", self.reset_gate, f"allowed with cell {self.cell!r} is 'after'")

    def _check_strategy(self) -> None:
        with_strategy = f"allowed with strategy {self.strategy!r}"
        if self.strategy == "one_to_one" and self.seq_max_len != 1:
            _refuse("seq_max_len", self.seq_max_len, f"{with_strategy}, a single step, is 1")
        if self.strategy in ("one_to_many", "encoder_decoder") and self.bidirectional:
            _refuse("bidirectional", True, f"{with_strategy}, which takes its own outputs in, is False")
        if self.strategy != "one_to_many":
            return
        returns = f"is out_dim = {self.out_dim}, because its outputs are its next inputs"
        if self.vocab_size is None and self.input_dim != self.out_dim:
            _refuse("input_dim", self.input_dim, f"{with_strategy} and features {returns}")
        if self.vocab_size is not None and self.vocab_size != self.out_dim:
            _refuse("vocab_size", self.vocab_size, f"{with_strategy} {returns}")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _refuse(name: str, value: object, allowed: str) -> NoReturn:
    raise SpecError(f"{name} = {value!r}: {allowed}")


def _toml(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
