"""The courses of training by name, as the registry of train types gives them."""

from __future__ import annotations

from selection.registry import train_type_named
from train.schedule.base import Job, TrainingSchedule
from train.schedule.elastic import ElasticSchedule
from train.schedule.head_first import HeadFirst
from train.schedule.once import DelayedSelection
from train.schedule.prune import PruneSchedule
from train.schedule.redraw import RedrawSchedule

_SCHEDULES: dict[str, type[TrainingSchedule]] = {
    "once": TrainingSchedule,
    "elastic": ElasticSchedule,
    "prune": PruneSchedule,
    "redraw": RedrawSchedule,
}


def schedule_for(job: Job) -> TrainingSchedule:
    """That of the run's train type, behind the head's own epochs if there are any.

    A given selection is kept throughout.
    """
    course = _course(job)
    return course if job.head_rates is None else HeadFirst(job, course)


def _course(job: Job) -> TrainingSchedule:
    if job.config.select_at_epoch:
        return DelayedSelection(job)
    if job.given is not None:
        return TrainingSchedule(job)
    return _SCHEDULES[train_type_named(job.config.train_type).schedule](job)
