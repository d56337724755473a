"""What a report keeps of its runs stands in for them, on another machine or another day."""

from __future__ import annotations

import pytest

from common.errors import UserError
from reproduce.report.cells import best_accuracy, cell, sources
from reproduce.report.write import write_report
from reproduce.store.reported import reported_runs
from reproduce.store.runs import Store
from reproduce.sweep.progress import Progress
from reproduce.sweep.queue import RunQueue
from tests.reproduce.helpers import spec
from tests.reproduce.report_helpers import META, a_report, run_here


def test_recorded_runs_count_as_done_and_say_the_same(tmp_path):
    here, there = Store(tmp_path / "here"), tmp_path / "there"
    wanted = spec(3, num_epochs=1)
    run_here(here, wanted)
    report = a_report(sources=sources(here, [wanted]))
    again = Store(there, reported_runs(write_report(report, str(tmp_path / "reports"), META)))
    assert again.state(wanted) == "done" and again.state(spec(4, num_epochs=1)) == "missing"
    assert again.result(wanted) == here.result(wanted)
    assert again.selected(wanted) == here.selected(wanted) != []
    assert again.metrics(wanted) == here.metrics(wanted) != []
    assert again.about(wanted)["seconds"] == here.about(wanted)["seconds"]
    assert sources(again, [wanted]) == sources(here, [wanted])
    assert cell(again, [wanted], best_accuracy) == cell(here, [wanted], best_accuracy)
    # A sweep does not carry it out again, and its own folder, once there is one, goes first.
    progress = Progress(again, [wanted])
    assert RunQueue(again, [wanted], progress).exhausted and not there.exists()
    run_here(Store(there), wanted)
    assert again.reported(wanted) is None


def test_a_folder_that_is_no_report_is_one_line(tmp_path):
    with pytest.raises(UserError, match="--records .* it has no meta.json, so it is no report"):
        reported_runs(tmp_path)
    folder = write_report(a_report(), str(tmp_path), META)
    with pytest.raises(UserError, match="the report has no records of its runs"):
        reported_runs(folder)


def test_a_report_of_an_earlier_version_is_one_line(tmp_path):
    (tmp_path / "meta.json").write_text('{"runs": [{"run": "a", "settings": {}}]}')
    (tmp_path / "records.jsonl").write_text('{"run": "a"}\n')
    with pytest.raises(UserError, match="an earlier version made it, which kept too little"):
        reported_runs(tmp_path)
