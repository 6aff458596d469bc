"""What the user's code raises when nanfix tries it on other data than it was written for."""

import tensorflow as tf

# A loss that asserts its number of rows, a layer that knows no such class, numpy given what is
# symbolic: any of these says no more than that it cannot be tried so.
REFUSED = (
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
    tf.errors.OpError,
)
