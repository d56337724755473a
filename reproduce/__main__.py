"""The paper's tables and figures, one command each.

    python -m reproduce list
    python -m reproduce table2 --models mobilenetv2 --datasets flowers102 --plan

Exit status: 0; 1 if runs failed (the report says which cells lack them); 2 for a mistake; 130 for
Ctrl-C or SIGTERM, after which the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from collections.abc import Sequence
from typing import Any, Optional

from common.files import user_path
from common.machine import git_revision, machine
from common.program import exit_status, run_as_process
from common.wording import count
from reproduce.command_line import options_for, parse, workers_for
from reproduce.item import Item, Options
from reproduce.registry import all_items, item_named
from reproduce.store.reported import reported_runs
from reproduce.store.runs import RunSpec, Store
from reproduce.sweep.durations import Durations, about, duration
from reproduce.sweep.local_executor import LocalExecutor
from reproduce.sweep.progress import Progress
from reproduce.sweep.queue import RunQueue


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Parse, run, report; the exit status."""
    hint = "; the same command goes on from here"
    return exit_status("reproduce", lambda: _carry_out(argv), hint)


def _carry_out(argv: Optional[Sequence[str]]) -> int:
    arguments = parse(sys.argv[1:] if argv is None else argv)
    if arguments.names == ["list"]:
        _print_list(arguments)
        return 0
    names = list(all_items()) if arguments.names == ["all"] else arguments.names
    wanted = [(item, options_for(item, arguments)) for item in map(item_named, names)]
    failed = [_reproduce(item, options, arguments) for item, options in wanted]
    return 1 if any(failed) else 0


def _reproduce(item: Item, options: Options, arguments: argparse.Namespace) -> int:
    """One item: its plan, or its runs and its report. How many runs failed."""
    reported = reported_runs(user_path(arguments.records, "--records")) if arguments.records else {}
    store = Store(arguments.runs_dir, reported)
    print(f"{item.name}: {item.title}", flush=True)
    if arguments.plan:
        _print_plan(item, options, store)
        return 0
    failed = 0
    if not arguments.report_only:
        failed = run_all(item, options, store, arguments)
    _write_report(item, options, store, arguments.reports_dir)
    return failed


def run_all(item: Item, options: Options, store: Store, arguments: argparse.Namespace) -> int:
    """Carry out the runs of ``item``, those included that follow from others; how many failed."""
    executor = _executor(item, arguments)
    seen: dict[RunSpec, None] = {}
    failed = 0
    specs = item.specs(options)
    while specs:
        seen.update(dict.fromkeys(specs))
        progress = Progress(store, specs)
        sweep = RunQueue(store, specs, progress, arguments.retry_failed)
        progress.begin()
        if progress.left:
            executor.run(sweep, progress)
        failed += progress.counts["failed"]
        specs = [spec for spec in _follow_up(item, options, store) if spec not in seen]
    return failed


def _executor(item: Item, arguments: argparse.Namespace) -> Any:
    workers = workers_for(item, arguments.workers)
    if arguments.executor == "local":
        return LocalExecutor(workers)
    from reproduce.sweep.ray_executor import RayExecutor  # Ray only where it is asked for

    return RayExecutor(arguments.address, workers, arguments.cpus_per_run)


def _follow_up(item: Item, options: Options, store: Store) -> list[RunSpec]:
    return item.follow_up(options, store) if item.follow_up else []


def _print_plan(item: Item, options: Options, store: Store) -> None:
    specs = list(dict.fromkeys([*item.specs(options), *_follow_up(item, options, store)]))
    durations = Durations(store)
    for spec in specs:
        state = store.state(spec)
        if state == "done":
            time = duration(store.about(spec)["seconds"])
        else:
            seconds = durations.of(spec)
            time = "?" if seconds is None else about(seconds)
        print(f"{state:8}{time:>15}  {spec.title}")
    left = [spec for spec in specs if store.state(spec) == "missing"]
    failed = sum(store.state(spec) == "failed" for spec in specs)
    print(
        f"{_runs(specs)}: {len(specs) - len(left) - failed} done, {failed} failed, "
        f"{len(left)} to run, one after another: {durations.total_text(left)}"
    )
    if item.follow_up:
        print("more runs may follow from their results")
    print(f"results: {store.root}")


def _runs(specs: Sequence[RunSpec]) -> str:
    return count(len(specs), "run") if specs else "no runs"


def _print_list(arguments: argparse.Namespace) -> None:
    store = Store(arguments.runs_dir)
    durations = Durations(store)
    for item in all_items().values():
        specs = list(dict.fromkeys(item.specs(options_for(item, arguments))))
        more = " and those that follow from them" if item.follow_up else ""
        print(f"{item.name}: {item.title}\n    needs {item.needs}; {_runs(specs)}{more}")
        if specs:
            done = sum(store.state(spec) == "done" for spec in specs)
            print(f"    {durations.total_text(specs)}; {done} done here")


def _write_report(item: Item, options: Options, store: Store, reports_dir: str) -> None:
    from reproduce.report.html import write_index  # matplotlib is not needed to plan
    from reproduce.report.write import write_report

    now = datetime.datetime.now(datetime.timezone.utc)
    meta = {
        "command": shlex.join(["python", "-m", "reproduce", *sys.argv[1:]]),
        "commit": git_revision(),
        "machine": machine(),
        "made": now.isoformat(timespec="seconds"),
    }
    folder = write_report(item.build(store, options), reports_dir, meta)
    page = write_index(reports_dir, list(all_items()))
    print(f"report: {folder} and {page}", flush=True)


if __name__ == "__main__":
    run_as_process(main)
