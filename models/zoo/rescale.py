"""rescale: a temperature in °F to °C (one to one: a single step).

An honest one to one: the answer follows from one reading alone, so that a history would add nothing, and
the model is judged on another city than it learned from. Nothing tells it the formula; the tanh cell must
bend into a straight line over the whole range, to within 0.1 °C.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from seqport.models.spec import ModelSpec
from seqport.models.zoo.task import Dataset, Recipe, Split, Task, Unit, data_package

# The scales are wide, so that a reading stays near zero, where tanh is all but straight.
FAHRENHEIT = Unit("°F", scale=200.0, offset=56.0, step=0.1)
CELSIUS = Unit("°C", scale=50.0, offset=13.0, step=0.1)
EVERY = 9  # hours; no divisor of 24, so that the test holds every hour of the day


@cache
def load() -> Dataset:
    """Hourly temperatures of a year: Seattle to learn from, every ninth hour of San Francisco for the test."""
    cities = data_package("vega_datasets").local_data
    return Dataset(
        train=_readings(cities.seattle_temps()["temp"].to_numpy()),
        test=_readings(cities.sf_temps()["temp"].to_numpy()[::EVERY]),
    )


def _readings(fahrenheit: np.ndarray) -> Split:
    celsius = ((fahrenheit - 32) / 1.8).round(1)
    x = FAHRENHEIT.to_output(fahrenheit)[:, None, None]  # [reading, 1 step, 1 feature]
    lengths = np.ones(len(x), np.int64)
    return Split({"x": x, "lengths": lengths}, CELSIUS.to_output(celsius)[:, None])


TASK = Task(
    name="rescale",
    spec=ModelSpec(
        cell="rnn",
        input_dim=1,
        num_hidden_units=32,
        out_dim=1,
        seq_max_len=1,
        strategy="one_to_one",
    ),
    summary="a temperature in °F → in °C",
    source="hourly temperatures of Seattle and San Francisco (NOAA), from vega_datasets",
    packages=("vega_datasets",),
    load=load,
    score_name="accuracy",
    recipe=Recipe(epochs=30, batch_size=64),
    unit=CELSIUS,
)
