"""Run scripts plainly, where nanfix cannot be imported: `python plainly.py OUT SCRIPT...`; what
came of each goes to OUT as JSON.

Started by test_scripts.py in a process of its own. Each script runs in its own folder,
as it would by itself.
"""

import json
import os
import runpy
import sys
import traceback
from pathlib import Path


class Absent:
    """Says of nanfix, wherever it lies, that it is not there."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "nanfix":
            raise ModuleNotFoundError("No module named 'nanfix'", name="nanfix")


def losses(script):
    """Return the losses of every epoch of each fit of a script, or the traceback that
    it ended with.
    """
    import keras

    seen, fit = [], keras.Model.fit

    def noted(model, *args, **kwargs):
        history = fit(model, *args, **kwargs)
        seen.append(history.history["loss"])
        return history

    keras.Model.fit = noted
    try:
        os.chdir(script.parent)
        sys.argv = [str(script)]
        runpy.run_path(str(script), run_name="__main__")
    except Exception:
        return traceback.format_exc()
    finally:
        keras.Model.fit = fit
        keras.utils.clear_session()
    return seen


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())
    out, *scripts = map(Path, sys.argv[1:])
    out.write_text(json.dumps({script.stem: losses(script) for script in scripts}))
