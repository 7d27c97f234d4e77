"""forecast: tomorrow's highest temperature from the days before (many to one, regression)."""

from __future__ import annotations

from functools import cache

import numpy as np

from seqport.models.spec import ModelSpec
from seqport.models.zoo.task import Dataset, Recipe, Split, Task, Unit, data_package, pad

# The station reads whole degrees Fahrenheit; the file holds the readings converted to 0.1 °C. Answers go back
# to what was measured.
FAHRENHEIT = Unit("°F", scale=13.0, offset=61.0, step=1.0)
SEQ_MAX_LEN = 14
TEST_DAYS = 365
TRAIN_WINDOWS = 4


@cache
def load() -> Dataset:
    """Seattle 2012 to 2015, day by day: the last year is the test.

    Each window ends the day before the one to forecast and begins 1 to 14 days earlier, as a forecaster
    with a short memory or a gap in the record would have it; several windows a day in training, one in the test.
    """
    weather = data_package("vega_datasets").local_data.seattle_weather()
    highest = weather["temp_max"].to_numpy() * 1.8 + 32
    lowest = weather["temp_min"].to_numpy() * 1.8 + 32
    angle = 2 * np.pi * weather["date"].dt.day_of_year.to_numpy() / 365.25
    features = np.stack(
        [
            FAHRENHEIT.to_output(highest),
            FAHRENHEIT.to_output(lowest),
            np.log1p(weather["precipitation"].to_numpy()),  # mm: most days none, some days fifty
            weather["wind"].to_numpy() / 5,
            np.sin(angle),
            np.cos(angle),
        ],
        axis=1,
    ).astype(np.float32)  # [day, feature]
    targets = FAHRENHEIT.to_output(highest.round())[:, None]
    rng = np.random.default_rng(0)
    first_test_day = len(features) - TEST_DAYS

    def windows(days: np.ndarray) -> Split:
        lengths = rng.integers(1, SEQ_MAX_LEN, len(days), endpoint=True)
        rows = [features[day - length : day] for day, length in zip(days, lengths, strict=True)]
        return Split(pad(rows, SEQ_MAX_LEN, np.float32), targets[days])

    return Dataset(
        train=windows(np.repeat(np.arange(SEQ_MAX_LEN, first_test_day), TRAIN_WINDOWS)),
        test=windows(np.arange(first_test_day, len(features))),
    )


TASK = Task(
    name="forecast",
    spec=ModelSpec(
        cell="gru",
        reset_gate="before",
        input_dim=6,
        num_hidden_units=16,
        out_dim=1,
        seq_max_len=SEQ_MAX_LEN,
        strategy="many_to_one",
    ),
    summary="up to fourteen days of Seattle's weather → the next day's highest temperature",
    source="seattle-weather (NOAA), from vega_datasets",
    packages=("vega_datasets",),
    load=load,
    score_name="mean absolute error",
    recipe=Recipe(epochs=12, batch_size=64),
    unit=FAHRENHEIT,
)
