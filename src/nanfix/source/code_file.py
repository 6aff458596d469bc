"""A file of the user's code: a script, or a notebook, which takes the extra `notebook`."""

import hashlib
from typing import TYPE_CHECKING

from nanfix.records.errors import ScriptError
from nanfix.records.notebook_paths import is_notebook

if TYPE_CHECKING:
    from nanfix.source.notebook import Notebook

MISSING = (
    "A notebook needs packages that are not installed. Expected: nbformat and IPython. Received: "
    "{received}. Install them: pip install 'nanfix[notebook]'"
)


def notebook(content: bytes, path: str) -> "Notebook":
    """Return the notebook that a file holds.

    Raises:
        ScriptError: it holds none with Python in it, or what reads it is not installed.
    """
    try:
        from nanfix.source.notebook import Notebook
    except ModuleNotFoundError as error:
        raise ScriptError(MISSING.format(received=error)) from error
    return Notebook.read(content, path)


def digest(content: bytes, path: str = "") -> str:
    """Return the SHA-256 of a file's content; of a notebook that of its code, which stays the same
    when it is run and saved.
    """
    code = notebook(content, path).code if is_notebook(path) else content
    return hashlib.sha256(code).hexdigest()
