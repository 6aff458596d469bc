"""Whose code is on the stack: the user's own, a library's, Python's, or nanfix'. Loads nothing but
the standard library.
"""

import ast
import linecache
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType

_LIBRARIES = tuple(
    f"{sep}{name}{sep}" for sep in ("/", "\\") for name in ("site-packages", "dist-packages")
)
_PACKAGES = tuple(  # wherever they lie: `pip install --target` puts them into any folder
    f"{folder}{os.sep}"
    for name in ("keras", "tensorflow", "numpy")
    for folder in (getattr(find_spec(name), "submodule_search_locations", None) or ())
)
GENERATED = "__autograph_generated_file"  # by TensorFlow, of a tf.function of the user's
# Links kept: code objects name their files as they were imported.
PACKAGE = Path(__file__).absolute().parents[1]
_OWN = f"{PACKAGE}{os.sep}"  # a folder beside it may begin with the same name
_MODULES: dict[str, str] = {}  # which module was found for a file
_STDLIB = f"{Path(contextmanager.__code__.co_filename).parent}{os.sep}"


def outward(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and those that called it, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


@lru_cache(4096)  # asked for every frame below every operation of a step that is looked at
def is_users(filename: str) -> bool:
    """Say whether a file is the user's own: neither a library's nor Python's nor nanfix'."""
    library = filename.startswith((_STDLIB, "<", _OWN, *_PACKAGES)) or any(
        part in filename for part in _LIBRARIES
    )
    return GENERATED not in filename and not library


def is_own(filename: str) -> bool:
    """Say whether a file is nanfix'."""
    return filename.startswith(_OWN)


@dataclass(frozen=True)
class Line:
    """A line of the user's own code that is being executed: its file's name and number, the
    function it is in, its text.

    `beside` are the other lines of the function or, of one that TensorFlow has rewritten, of the
    file, each with its number.
    """

    source: str
    function: str
    text: str
    beside: frozenset[tuple[int, str]]

    @property
    def code(self) -> str:
        """The line as it stays the same when lines are added above: "module.function: text"."""
        return f"{self.function}: {self.text}"

    def is_that_of(self, code: str) -> bool:
        """Say whether this is the line of such a `code`, or one of that function that is `alike`
        or, where none reads so any more, any in it.
        """
        function, _, text = code.partition(": ")
        return self.function == function and (
            self.text == text
            or alike(self.text, text)
            or text not in {other for _, other in self.beside}
        )

    @property
    def alike(self) -> tuple[str, ...]:
        """Return the sources of the other lines of the function that are `alike`."""
        file = self.source.rpartition(":")[0]
        numbers = sorted(number for number, text in self.beside if alike(self.text, text))
        return tuple(f"{file}:{number}" for number in numbers)


def alike(one: str, other: str) -> bool:
    """Say whether two lines call the same functions of other variables, as `a = a / norm(a)` and
    `b = b / norm(b)` do: what is at fault in one is so in the other.
    """
    formula = _formula(one)
    return formula is not None and formula == _formula(other)


@lru_cache(4096)
def _formula(text: str) -> str | None:
    """Return what a line computes, its variables by number; None where it calls nothing, or is no
    whole statement.
    """
    try:
        tree = ast.parse(text.strip())
    except SyntaxError:
        return None
    nodes = list(ast.walk(tree))
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    functions = {id(part) for function in called for part in _chain(function)}
    names = [node for node in nodes if isinstance(node, ast.Name) and id(node) not in functions]
    numbers: dict[str, str] = {}
    for name in names:
        name.id = numbers.setdefault(name.id, str(len(numbers)))
    return ast.dump(tree) if called else None


def _chain(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the parts of a dotted name."""
    yield node
    if isinstance(node, ast.Attribute):
        yield from _chain(node.value)


def line(frame: FrameType) -> Line | None:
    """Return the line that a frame of the user's own code executes, as written by the user; None
    for any other frame.
    """
    filename, number = frame.f_code.co_filename, frame.f_lineno
    if is_users(filename):
        numbers = {line for *_, line in frame.f_code.co_lines() if line}
        return _line(
            filename, number, frame.f_globals.get("__name__"), frame.f_code.co_name, numbers
        )
    if GENERATED not in filename:
        return None
    # Loads TensorFlow, which knows what it made the code from.
    from nanfix.private.tensorflow import users_stack

    written = next((entry for entry in reversed(users_stack()) if is_users(entry.filename)), None)
    if written is None:
        return None
    module = _module_of(written.filename)
    numbers = range(1, len(linecache.getlines(written.filename)) + 1)
    return _line(written.filename, written.lineno, module, written.name, numbers)


def _module_of(filename: str) -> str:
    """Return the name of the module that was loaded from a file; where there is none, it is a cell
    of a notebook. All modules are looked through only where the one that was found last is another
    by now.
    """
    known = _MODULES.get(filename)
    if known is None or getattr(sys.modules.get(known), "__file__", None) != filename:
        modules = (
            (name, getattr(module, "__file__", None)) for name, module in list(sys.modules.items())
        )
        known = next((name for name, file in modules if file == filename), None)
    if known is None:
        return "__main__"
    _MODULES[filename] = known
    return known


def _line(
    filename: str, number: int, module: str | None, function: str, numbers: Iterable[int]
) -> Line:
    texts = {other: linecache.getline(filename, other).strip() for other in (number, *numbers)}
    beside = frozenset((other, text) for other, text in texts.items() if other != number)
    return Line(f"{Path(filename).name}:{number}", f"{module}.{function}", texts[number], beside)


def innermost_line(frame: FrameType | None) -> Line | None:
    """Return the innermost line of the user's own code on the stack."""
    return next(filter(None, map(line, outward(frame))), None)


def user_line(frame: FrameType | None) -> str | None:
    """Return the innermost line of the user's own code that Python itself executes, as
    "file.py:LINE".
    """
    own = next((outer for outer in outward(frame) if is_users(outer.f_code.co_filename)), None)
    return None if own is None else f"{Path(own.f_code.co_filename).name}:{own.f_lineno}"


def code_place(function: object) -> str | None:
    """Return where a function of the user's own begins, as "file.py:LINE"; None of any other."""
    code = getattr(function, "__code__", None)
    if code is None or not is_users(code.co_filename):
        return None
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}"


def users_call(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame of the user's own code, or None where nanfix itself
    stands in between.
    """
    for outer in outward(frame):
        filename = outer.f_code.co_filename
        if is_users(filename):
            return outer
        if is_own(filename):
            return None
    return None


def span(code: CodeType, instruction: int) -> tuple[int, int, int, int] | None:
    """Return where the expression that an instruction, `f_lasti` of a frame, belongs to stands in
    its file: line, column, end line, end column.

    Lines count from 1, columns from 0 in bytes of UTF-8, as Python's parser has them; None where
    Python runs without them.
    """
    position = next(islice(code.co_positions(), instruction // 2, None), (None,) * 4)
    line, end_line, column, end_column = position
    if line is None or end_line is None or column is None or end_column is None:
        return None
    return line, column, end_line, end_column


def name_of(given: object) -> str:
    """Return the name of a function or a class, of anything else that of its class."""
    return getattr(given, "__name__", type(given).__name__)
