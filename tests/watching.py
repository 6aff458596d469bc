"""Take back what notes where objects are made, for tests that let it do so in their own process."""

import keras

TRAINER = next(kind for kind in keras.Model.__mro__ if "compile" in vars(kind))
WATCHED = (keras.Layer, keras.optimizers.Optimizer, keras.optimizers.schedules.LearningRateSchedule)


def put_back(monkeypatch):
    """Give Keras' classes their `__new__` and `compile` back at the end of the test.

    Python takes no arguments for object.__new__ again once a class has had one of its own, so that
    one of the same effect stays.
    """
    for kind in WATCHED:
        if kind.__new__ is object.__new__:
            kind.__new__ = staticmethod(lambda cls, *args, **kwargs: object.__new__(cls))
        monkeypatch.setattr(kind, "__new__", kind.__new__)
    monkeypatch.setattr(TRAINER, "compile", TRAINER.compile)
