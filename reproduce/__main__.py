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
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Optional

from common.errors import UserError
from common.machine import git_revision, machine
from reproduce.command_line import options_for, parse, without_paths, workers_for
from reproduce.registry import Item, Options, all_items, item_named
from reproduce.store.runs import RunSpec, Store
from reproduce.sweep.durations import Costs, count, duration, total_text
from reproduce.sweep.local_executor import LocalExecutor
from reproduce.sweep.progress import Progress
from reproduce.sweep.queue import Sweep

INTERRUPTED = 130


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Parse, run, report; the exit status."""
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        if arguments.names == ["list"]:
            _print_list(arguments)
            return 0
        names = list(all_items()) if arguments.names == ["all"] else arguments.names
        wanted = [(item, options_for(item, arguments)) for item in map(item_named, names)]
        failed = [_reproduce(item, options, arguments) for item, options in wanted]
    except UserError as error:
        print(f"reproduce: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("reproduce: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 1 if any(failed) else 0


def _reproduce(item: Item, options: Options, arguments: argparse.Namespace) -> int:
    """One item: its plan, or its runs and its report. How many runs failed."""
    store = Store(arguments.runs_dir)
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
        sweep = Sweep(store, specs, progress, arguments.retry_failed)
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
    costs = Costs(store)
    for spec in specs:
        state = store.state(spec)
        if state == "done":
            time = duration(store.about(spec)["seconds"])
        else:
            cost = costs.of(spec)
            time = "?" if cost is None else "~" * cost.scaled + duration(cost.seconds)
        print(f"{state:8}{time:>12}  {spec.title}")
    left = [spec for spec in specs if store.state(spec) == "missing"]
    failed = sum(store.state(spec) == "failed" for spec in specs)
    print(
        f"{count(len(specs))}: {len(specs) - len(left) - failed} done, {failed} failed, "
        f"{len(left)} to run, one after another: {total_text(costs.total(left))}"
    )
    if item.follow_up:
        print("more runs may follow from their results")
    print(f"results: {store.root}")


def _print_list(arguments: argparse.Namespace) -> None:
    store = Store(arguments.runs_dir)
    costs = Costs(store)
    for item in all_items().values():
        specs = list(dict.fromkeys(item.specs(options_for(item, arguments))))
        more = " and those that follow from them" if item.follow_up else ""
        print(f"{item.name}: {item.title}\n    needs {item.needs}; {count(len(specs))}{more}")
        if specs:
            done = sum(store.state(spec) == "done" for spec in specs)
            print(f"    time: {total_text(costs.total(specs))}; {done} done here")


def _write_report(item: Item, options: Options, store: Store, reports_dir: str) -> None:
    from reproduce.report.html import write_index  # matplotlib is not needed to plan
    from reproduce.report.report import write_report

    now = datetime.datetime.now(datetime.timezone.utc)
    meta = {
        "command": shlex.join(["python", "-m", "reproduce", *without_paths(sys.argv[1:])]),
        "commit": git_revision(),
        "machine": machine(),
        "made": now.isoformat(timespec="seconds"),
    }
    folder = write_report(item.build(store, options), reports_dir, meta)
    page = write_index(reports_dir, list(all_items()))
    print(f"report: {folder} and {page}", flush=True)


def catch_signals() -> None:
    """SIGTERM and a lost terminal end a sweep as Ctrl-C does, unless nohup was asked to keep it."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: object) -> NoReturn:  # noqa: ARG001
    raise KeyboardInterrupt


if __name__ == "__main__":
    catch_signals()
    sys.exit(main())
