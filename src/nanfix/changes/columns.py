"""Activations for single columns of what a layer gives: as softplus for the deviation that stands
beside a mean.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

# Of adjacent columns, first to last, how many and the name of their activation, None for the one
# that the layer has.
Columns = tuple[tuple[int, str | None], ...]
# What computes the activation of a piece of columns: by the place of the piece, and by name.
Activation = Callable[[int, str | None], Callable[[Any], Any]]

SOURCE = '''@keras.utils.register_keras_serializable()
def {name}(x):
    """Return x with {words}."""
    return keras.ops.concatenate([{parts}], axis=-1)'''


def of_json(value: Any) -> Columns:
    """Return the activations of columns as they come out of a fix.json."""
    return tuple((int(width), name) for width, name in value)


def in_words(columns: Columns) -> str:
    """Return such as "softplus of column 1 and sigmoid of columns 2 to 3"."""
    return " and ".join(
        f"{name} of column{f' {first}' if first == last else f's {first} to {last}'}"
        for first, last, name in _numbered(columns)
        if name is not None
    )


def by_columns(layer: "keras.Layer", columns: Columns) -> "keras.Model":
    """Return what computes these activations, of stock layers and operations, so that a model that
    is saved with it can be loaded by Keras alone.
    """
    import keras  # loads TensorFlow

    from nanfix.model.activations import activation_of

    built: Any = layer.get_build_config()
    shape: Any = layer.compute_output_shape(built["input_shape"])
    given = keras.Input(
        batch_shape=(*(None for _ in shape[:-1]), shape[-1]), dtype=layer.compute_dtype
    )
    called, present = f"{layer.name}_columns", activation_of(layer)
    return of_columns(given, columns, called, present, dtype=layer.dtype_policy)


def of_columns(
    given: Any, columns: Columns, called: str, present: Any = "linear", *, dtype: Any
) -> "keras.Model":
    """Return the model `called` so that computes the activations of a symbolic tensor, `present`
    where a column has none, in layers of this dtype.
    """
    import keras

    def activation(index: int, name: str | None) -> "keras.Layer":
        wanted = present if name is None else name
        return keras.layers.Activation(wanted, name=f"{called}_{index}", dtype=dtype)

    return keras.Model(given, applied(columns, given, activation), name=called)


def applied(columns: Columns, values: Any, activation: Activation | None = None) -> Any:
    """Return a tensor with the activations of its columns, as `activation` gives them: Keras' own
    functions by default.
    """
    import keras

    of = activation or (lambda _, name: keras.activations.get(name))
    return keras.ops.concatenate(
        [
            of(index, name)(values[..., first : last + 1])
            for index, (first, last, name) in enumerate(_numbered(columns))
        ],
        axis=-1,
    )


def in_source(columns: Columns, present: str) -> tuple[str, str]:
    """Return the name of a function that computes these activations, and its definition.

    Args:
        present: the activation that the layer has, by its name in Keras.
    """
    written = tuple((width, _written(name or present)) for width, name in columns)
    numbered = list(_numbered(written))
    name = "_and_".join(
        f"{name}_of_{first}" if first == last else f"{name}_of_{first}_to_{last}"
        for first, last, name in numbered
        if name is not None
    )
    stop = numbered[-1][1]
    parts = ", ".join(_part(first, last, stop, name) for first, last, name in numbered)
    return name, SOURCE.format(name=name, words=in_words(written), parts=parts)


def _written(name: str) -> str | None:
    """Return the name of an activation, None for one that need not be written."""
    return None if name == "linear" else name


def _part(first: int, last: int, stop: int, name: str | None) -> str:
    columns = f"x[..., {first or ''}:{'' if last == stop else last + 1}]"
    return columns if name is None else f"keras.activations.{name}({columns})"


def _numbered(columns: Columns) -> Iterator[tuple[int, int, str | None]]:
    """Yield the first and the last column of each piece, and its activation."""
    first = 0
    for width, name in columns:
        yield first, first + width - 1, name
        first += width
