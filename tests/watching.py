"""Take back what notes where objects are made, for tests that let it do so in their own process."""


def put_back(monkeypatch, kind):
    """Give a class its `__new__` back at the end of the test.

    Python takes no arguments for object.__new__ again once a class has had one of its own, so that one of the same effect stays.
    """
    if kind.__new__ is object.__new__:
        kind.__new__ = staticmethod(lambda cls, *args, **kwargs: object.__new__(cls))
    monkeypatch.setattr(kind, "__new__", kind.__new__)
