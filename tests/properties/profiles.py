"""How many examples a property is tried on: few and always the same ones, or many at random.

`make test-properties` sets SEQPORT_PROPERTIES=thorough; SEQPORT_EXAMPLES multiplies its examples further.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings

THOROUGH = os.environ.get("SEQPORT_PROPERTIES") == "thorough"
_TIMES = 20 * int(os.environ.get("SEQPORT_EXAMPLES", "1"))


def examples(few: int) -> Callable[[Any], Any]:
    """Settings of one property: `few` examples, or that many times more in the thorough profile."""
    return settings(
        max_examples=few * _TIMES if THOROUGH else few,
        # The same examples in every run of the quick profile: a change must not turn red for what it did not touch.
        derandomize=not THOROUGH,
        print_blob=THOROUGH,
        # An example exports a model, 0.5 to 2 seconds on an idle machine; no time says that it has failed.
        deadline=None,
        # Generation is cheap, but an example that exports looks slow beside it.
        suppress_health_check=[HealthCheck.too_slow],
        # To make a failure smaller takes minutes of exports: that is for whoever looks into it.
        phases=[Phase.explicit, Phase.reuse, Phase.generate, *([Phase.shrink] if THOROUGH else [])],
    )
