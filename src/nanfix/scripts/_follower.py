"""Follows the data of a script up to a fit call, in the script's process, and says which line made
what is not finite in them.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

import wrapt

from nanfix.model.faults import one_line
from nanfix.model.user_code import is_users, users_call
from nanfix.records.data_origin import Argument, DataOrigin
from nanfix.source.data_tracer import DataTracer
from nanfix.source.nonfinite_values import CONTAINERS, holes

if TYPE_CHECKING:
    import tensorflow as tf

# Of fit.
ARGUMENTS = (
    Argument("inputs", "x", 0),
    Argument("targets", "y", 1),
    Argument("sample weights", "sample_weight", 10),
    Argument("validation data", "validation_data", 7),
)
MAPPING = ("map", "flat_map", "interleave")  # methods of a tf.data.Dataset that take a function
SECONDS = 30.0  # for which batches are drawn, to see which are not finite


class Follower:
    """Follows a script from `start` on."""

    def __init__(self) -> None:
        self._tracer = DataTracer()
        self._caller: FrameType | None = None

    def start(self) -> None:
        wrapt.register_post_import_hook(self._follow_pipelines, "tensorflow")
        self._tracer.start()

    @contextlib.contextmanager
    def waiting(self, frame: FrameType) -> Iterator[None]:
        """Follow nothing inside, in a call of `fit` that is made in `frame`."""
        self._tracer.stop()
        self._caller = users_call(frame)
        try:
            yield
        finally:  # the script may handle what `fit` raises
            self._tracer.start()

    @property
    def fault(self) -> str | None:
        """What nanfix itself failed of while it followed the script, in a line."""
        fault = self._tracer.fault
        return None if fault is None else one_line(fault)

    def origins(self, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return where the numbers come from that are not finite in what fit is given, as JSON."""
        found: dict[DataOrigin, str] = {}  # what is called alike comes from one place
        for argument in ARGUMENTS:
            value = arguments.get(argument.keyword)
            parts = {argument.name: value}
            if argument.keyword == "x" and holes(value) is None:
                parts = self._drawn(value)
            for name, part in parts.items():
                origin = self._caller and self._tracer.of_argument(
                    self._caller, "fit", replace(argument, name=name), part
                )
                if origin:
                    apart = origin.model_copy(update={"argument": ""})
                    found[apart] = f"{found[apart]} and {name}" if apart in found else name
        return [
            origin.model_copy(update={"argument": argument}).model_dump()
            for origin, argument in found.items()
        ]

    def _drawn(self, data: Any) -> dict[str, Any]:
        """Return the parts of the first batch that is not finite."""
        import tensorflow as tf

        from nanfix.data.arrays import unpacked

        tf.config.run_functions_eagerly(True)  # so that they are followed too
        end = time.monotonic() + SECONDS
        self._tracer.start()
        try:
            for batch in _batches(data):
                x, y, weight = unpacked(batch)
                parts = {"inputs": x, "targets": y, "sample weights": weight}
                if any(map(holes, parts.values())):
                    return parts
                if time.monotonic() > end:
                    break
        finally:
            self._tracer.stop()
        return {}

    def _follow_pipelines(self, tf: ModuleType) -> None:
        """Let the functions in tf.data pipelines run as Python, an element at a time, and follow
        them.
        """
        tf.data.experimental.enable_debug_mode()
        for name in MAPPING:
            setattr(tf.data.Dataset, name, self._following(getattr(tf.data.Dataset, name)))

    def _following(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def followed(
            dataset: "tf.data.Dataset", map_func: Callable[..., Any], *args: Any, **kwargs: Any
        ) -> Any:
            # from_generator maps functions of TensorFlow's own, which break when they are followed.
            own = getattr(getattr(map_func, "__code__", None), "co_filename", None)
            if own is None or is_users(own):
                map_func = self._tracer.followed(map_func)
            return method(dataset, map_func, *args, **kwargs)

        return followed


def _batches(data: Any) -> Iterator[Any]:
    """Yield the batches of a tf.data.Dataset, a generator, a PyDataset; nothing of an array.

    Keras would draw them in threads of its own, in which nothing is followed.
    """
    if type(data) in CONTAINERS or hasattr(data, "dtype") or hasattr(data, "to_numpy"):
        return
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        yield from (data[number] for number in range(len(data)))
    elif hasattr(data, "__iter__"):
        yield from data
