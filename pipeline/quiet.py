"""Imports TensorFlow for a command, without what it says to everyone of GPUs that it did not find."""

from __future__ import annotations

import os
import sys
import tempfile


def import_tensorflow() -> None:
    """Import TensorFlow and let it look for devices, its native messages held back unless it fails.

    TF_CPP_MIN_LOG_LEVEL silences what comes after its logging is set up; the messages before that go straight
    to the file descriptor, so that is where they are caught. For commands only: a library must not do this.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what is wrong also comes as an exception
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
            tf.constant(0)
        except BaseException:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
