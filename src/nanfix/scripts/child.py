"""The child process of a script run: the user's script, unmodified, with every
`model.fit` handed to nanfix.

Started as `python -P -m nanfix.scripts.child JOB EVENTS SCRIPT [ARGS]...`, where JOB is a JSON file
that `nanfix.scripts.parent` writes, and SCRIPT the name of a module where the job says so. What
happens in each fit call is appended to the file EVENTS, one JSON object a line. The script keeps
its arguments, working folder, environment, output, exit code and traceback.
"""

import os
import sys
from pathlib import Path

import wrapt

from nanfix.model.quiet import let_tensorflow_load_quietly
from nanfix.scripts._as_main import MissingModule, script_frames
from nanfix.scripts._interceptor import Interceptor
from nanfix.scripts._job import Job
from nanfix.scripts._runner import runner

NO_MODULE = (
    "There is no module {name!r}. Expected: a module that `python -m {name}` would run. Received: "
    "{name!r}, not found from {folder!r}. Check the name and the working folder; a file is run "
    "without -m."
)
LEGACY = (
    "The script uses the legacy package tf_keras, whose fit is not watched; nanfix repairs Keras 3."
)


def main() -> None:
    job_file, events, script, *arguments = sys.argv[1:]
    job = Job.model_validate_json(Path(job_file).read_text(encoding="utf-8"))
    let_tensorflow_load_quietly()
    interceptor = Interceptor(job, Path(events))
    wrapt.register_post_import_hook(interceptor.install, "keras")
    wrapt.register_post_import_hook(lambda _: interceptor.note(LEGACY), "tf_keras")
    hook = sys.excepthook

    def excepthook(kind, error, traceback):
        own = script_frames(traceback)
        hook(kind, error.with_traceback(own), own)

    sys.excepthook = excepthook
    if job.mode == "trace":
        interceptor.follow()
    run = runner(script, job.module)
    try:
        run(script, arguments)
    except MissingModule:
        interceptor.refuse("ScriptError", NO_MODULE.format(name=script, folder=os.getcwd()))


if __name__ == "__main__":
    main()
