"""Where the user's own code makes layers, models and optimizers, compiles and fits them: noted
while the script runs.
"""

import functools
import itertools
import linecache
import os
import sys
import weakref
from collections import Counter
from types import CodeType, FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from nanfix.model.optimizers import base
from nanfix.model.user_code import is_own, is_users, outward, span, users_call
from nanfix.records.notebook_paths import cell_of
from nanfix.records.source_places import Made, Span

if TYPE_CHECKING:
    import keras


class Places:
    """Remembers for every object of Keras the call of the user's own code that made it, and how
    many each call made.

    Objects that a library or nanfix makes by itself have no place; an optimizer that Keras makes of
    a description has that of the call of compile. Nothing is kept alive.
    """

    def __init__(self):
        self._folder = os.getcwd()  # the script may leave it
        self._made: dict[int, tuple[weakref.ref[Any], Span]] = {}
        self._compiled: dict[int, tuple[weakref.ref[keras.Model], Span]] = {}
        self._compilations: dict[int, tuple[weakref.ref[keras.Model], int]] = {}
        self._trained: dict[int, tuple[weakref.ref[keras.Model], weakref.ref[keras.Model]]] = {}
        self._counts: Counter[tuple[Span, str]] = Counter()

    def install(self, keras: ModuleType) -> None:
        """Watch what is made from now on. `keras` is the package, which has just been imported."""
        for kind in (
            keras.Layer,
            keras.optimizers.Optimizer,
            keras.optimizers.schedules.LearningRateSchedule,
        ):
            self._watch(kind)
        # Where Keras defines it: a model class that has another compile counts as one that cannot
        # be compiled when it is loaded.
        owner = next(each for each in keras.Model.__mro__ if "compile" in vars(each))
        compile_ = owner.compile

        @functools.wraps(compile_)
        def compile_at(model, *args, **kwargs):
            self._note(self._compiled, model, "compile", sys._getframe(1))
            self._compilations[id(model)] = weakref.ref(model), self.compilations(model) + 1
            done = compile_(model, *args, **kwargs)
            made = base(model.optimizer)
            if self.of(made) is None:  # by Keras, of a description that compile was given
                self._note(self._made, made, type(made).__name__, sys._getframe(1))
            return done

        owner.compile = compile_at

    def called(self, callee: str, frame: FrameType) -> Made | None:
        """Note a call by the user's own code, seen from inside it, and return its place."""
        place = self._place(frame)
        return None if place is None else self._counted(place, callee)

    def of(self, made: object) -> Made | None:
        """Return the call that made an object, or None where it is not the user's own."""
        return self._found(self._made, made, type(made).__name__)

    def compiled(self, model: "keras.Model") -> Made | None:
        """Return the call that compiled a model, or None where it is not the user's own."""
        return self._found(self._compiled, model, "compile")

    def compilations(self, model: "keras.Model") -> int:
        """Return how many times a model was compiled, by whomever."""
        reference, count = self._compilations.get(id(model), (None, 0))
        return count if reference is not None and reference() is model else 0

    def trains(self, model: "keras.Model") -> None:
        """Note that a model is trained now, and with it the models in it."""
        owner = weakref.ref(model)
        for part in (model, *model.layers):
            if hasattr(part, "fit"):
                self._trained[id(part)] = weakref.ref(part), owner

    def trained_by_another(self, part: "keras.Model", model: "keras.Model") -> bool:
        """Say whether the last to train a part of a model was another model, or the part itself."""
        found = self._trained.get(id(part))
        return found is not None and found[0]() is part and found[1]() is not model

    def way(self, frame: FrameType) -> tuple[Span, ...]:
        """Return where the user's own code stands in a frame and in all that called it, the
        innermost first.
        """
        script = itertools.takewhile(
            lambda each: not is_own(each.f_code.co_filename), outward(frame)
        )
        places = (self._standing(each) for each in script if is_users(each.f_code.co_filename))
        return tuple(place for place in places if place is not None)

    @property
    def counts(self) -> list[tuple[Span, str, int]]:
        """How many objects of which class each place has made so far."""
        return [(place, callee, count) for (place, callee), count in self._counts.items()]

    def file(self, name: str) -> str | None:
        """Return the path of the user's own loaded file of that name, or None where
        there is none or several.
        """
        paths = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
        paths |= {path for path in list(linecache.cache) if cell_of(path) is not None}
        found = {
            os.path.abspath(path)
            for path in paths
            if os.path.basename(path) == name and is_users(path)
        }
        return self.relative(found.pop()) if len(found) == 1 else None

    def relative(self, path: str) -> str:
        """Return a path as seen from the folder the script was started in; the path
        itself where it lies elsewhere.
        """
        relative = os.path.relpath(os.path.join(self._folder, path), self._folder)
        return (
            os.path.abspath(path)
            if relative.startswith(os.pardir)
            else relative.replace(os.sep, "/")
        )

    def of_code(self, code: CodeType) -> tuple[str, int]:
        """Return the file, as `relative` does, and the line in which code is defined."""
        return self.relative(code.co_filename), code.co_firstlineno

    def absolute(self, path: str) -> str:
        """Return the absolute path of one that `relative` gave."""
        return os.path.join(self._folder, path)

    def _watch(self, base: Any) -> None:
        """Note every object of `base` and its subclasses as soon as there is one; how it is
        initialized stays Keras'.
        """
        new = base.__new__

        @functools.wraps(new)
        def noted(cls, *args, **kwargs):
            made = new(cls) if new is object.__new__ else new(cls, *args, **kwargs)
            self._note(self._made, made, type(made).__name__, sys._getframe(1))
            return made

        base.__new__ = staticmethod(noted)

    def _note(
        self,
        places: dict[int, tuple[weakref.ref[Any], Span]],
        made: object,
        callee: str,
        frame: FrameType,
    ) -> None:
        place = self._place(frame)
        if place is not None:
            places[id(made)] = weakref.ref(made), place
            self._counts[place, callee] += 1

    def _place(self, frame: FrameType) -> Span | None:
        frame_of_user = users_call(frame)
        return None if frame_of_user is None else self._standing(frame_of_user)

    def _standing(self, frame: FrameType) -> Span | None:
        position = span(frame.f_code, frame.f_lasti)
        if position is None:
            return None
        line, column, end_line, end_column = position
        file = self.relative(frame.f_code.co_filename)
        return Span(file=file, line=line, column=column, end_line=end_line, end_column=end_column)

    def _found(
        self, places: dict[int, tuple[weakref.ref[Any], Span]], made: object, callee: str
    ) -> Made | None:
        reference, place = places.get(id(made), (None, None))
        if reference is None or place is None or reference() is not made:
            return None
        return Made(place=place, callee=callee, made=self._counts[place, callee])

    def _counted(self, place: Span, callee: str) -> Made:
        self._counts[place, callee] += 1
        return Made(place=place, callee=callee, made=self._counts[place, callee])
