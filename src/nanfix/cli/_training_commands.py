"""The commands that train: `repair`, `diagnose` and `run`, of a script or a saved model."""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import typer

from nanfix.cli import _options as options
from nanfix.cli._refusals import check_new, check_subject, names, program, to_save
from nanfix.cli._words import announce, print_explained, print_missing, print_result, print_written
from nanfix.model.quiet import load_tensorflow
from nanfix.records.errors import InputError
from nanfix.search.workers.pool import Workers

DRY_RUN = "Dry run: nothing was repaired or written."


def repair(  # noqa: PLR0913  # long: an argument for each option of the command
    script: options.ScriptOrNone = None,
    args: options.Args = None,
    module: options.AsModule = False,
    model: options.Model = None,
    data: options.Data = None,
    target: options.Target = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    trust_model: options.TrustModel = False,
    save: options.Save = None,
    budget_trials: options.Trials = None,
    budget_seconds: options.Seconds = None,
    strategies: options.Strategies = None,
    forbid: options.Forbid = None,
    seed: options.Seed = None,
    run_dir: options.RunDir = None,
    workers: options.WorkerCount = 1,
    host: options.Host = "127.0.0.1",
    port: options.Port = 0,
    repair_divergence: options.RepairDivergence = False,
    dry_run: options.DryRun = False,
    no_prove: options.NoProve = False,
    no_trace: options.NoTrace = False,
    no_check_patch: options.NoCheckPatch = False,
    out: options.Out = Path("fix.json"),
    force: options.Force = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Run SCRIPT, repair what goes NaN, prove the fix by running SCRIPT again with it, and see
    what SCRIPT reaches with the patch alone.

    With --model and --data a saved model is trained and repaired instead, and the fix
    proved on a fresh copy of it.
    """
    saved = {
        "--data": data,
        "--target": target,
        "--epochs": epochs,
        "--batch-size": batch_size,
        "--save": save,
    }
    written = {"--out": out, **to_save(script, module, model, save)}
    own = {name: value for name, value in saved.items() if model is not None or name not in written}
    check_subject(script, module, model, {**own, "--trust-model": trust_model or None})
    if model is not None and no_prove:
        raise InputError(
            "A saved model is always proved, on a fresh copy of it. Expected: --no-prove with a "
            "script. Received: --no-prove and --model. Leave it out."
        )
    budget = {"trials": budget_trials, "seconds": budget_seconds}
    search = {
        "budget": {name: value for name, value in budget.items() if value is not None},
        "strategies": None if strategies is None else names("--strategies", strategies),
        "forbid": [] if forbid is None else names("--forbid", forbid),
        "repair_divergence": repair_divergence,
    }
    runs = program(script, module) if model is None else None
    if not dry_run:
        check_new(written, force)
    if runs is None:
        assert model is not None and data is not None  # as check_subject saw to
        load_tensorflow()
        from nanfix.cli._saved_models import SavedModel, plan_saved, repair_saved

        verbose = 0 if quiet else 2
        subject = SavedModel(
            model, data, target, epochs or 1, batch_size or 32, trust_model, seed or 0, verbose
        )
        plan, mend = (
            partial(plan_saved, subject),
            partial(repair_saved, subject, model_out=written["--save"]),
        )
    else:
        from nanfix.scripts.parent import plan_script, repair_script

        announce(quiet)
        proof = {
            "seed": seed,
            "prove": not no_prove,
            "trace": not no_trace,
            "check_patch": not no_check_patch,
            "save": written.get("--save"),
        }
        plan, mend = (
            partial(plan_script, runs, args or []),
            partial(repair_script, runs, args or [], **proof),
        )
    with _standard_output_kept(as_json or model is not None):
        pool = Workers(workers, host, port)
        result = (
            plan(**search) if dry_run else mend(**search, out=out, run_dir=run_dir, workers=pool)
        )
    if dry_run:
        print_explained("repair", replace(result, notes=(*result.notes, DRY_RUN)), as_json, quiet)
    else:
        print_result("repair", result, as_json, quiet)
        if result.written and not quiet and not as_json:
            print_written(
                result, shlex.join([*(["-m"] if module else []), str(script), *(args or [])])
            )
    raise typer.Exit(result.code)


def diagnose(  # noqa: PLR0913
    script: options.ScriptOrNone = None,
    args: options.Args = None,
    module: options.AsModule = False,
    model: options.Model = None,
    data: options.Data = None,
    target: options.Target = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    trust_model: options.TrustModel = False,
    no_trace: options.NoTrace = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Run SCRIPT, or train a saved model, until it goes non-finite, and explain why;
    nothing is changed.
    """
    saved = {"--data": data, "--target": target, "--epochs": epochs, "--batch-size": batch_size}
    check_subject(script, module, model, {**saved, "--trust-model": trust_model or None})
    with _standard_output_kept(as_json or model is not None):
        if model is not None and data is not None:
            load_tensorflow()
            from nanfix.cli._saved_models import SavedModel, diagnose_saved

            verbose = 0 if quiet else 2
            result = diagnose_saved(
                SavedModel(
                    model, data, target, epochs or 1, batch_size or 32, trust_model, verbose=verbose
                )
            )
        else:
            from nanfix.scripts.parent import diagnose_script

            announce(quiet)
            result = diagnose_script(program(script, module), args or [], trace=not no_trace)
    print_explained("diagnose", result, as_json, quiet)
    raise typer.Exit(result.code)


def run(
    script: options.Script,
    fix: options.FixFile,
    args: options.Args = None,
    module: options.AsModule = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Run SCRIPT with a known fix, without any search."""
    from nanfix.scripts.parent import run_script_with_fix

    with _standard_output_kept(as_json):
        result = run_script_with_fix(program(script, module), args or [], fix)
    print_result("run", result, as_json, quiet)
    if not quiet and not as_json:
        print_missing(result, fix)
    raise typer.Exit(result.code)


@contextlib.contextmanager
def _standard_output_kept(apart: bool) -> Iterator[None]:
    """Send what a script or a training prints to standard error where standard output
    is for something else.
    """
    if not apart:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)  # for child processes
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
