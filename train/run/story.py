"""The story of one run, from top to bottom: configuration, data, network, selection, training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import tensorflow as tf

from common.errors import RunError, UserError, in_one_line
from common.signals import no_signals
from models.network import Network
from selection.selection import Selection
from train.checkpoint.archive import Archive
from train.config.run_config import TUNE, RunConfig
from train.data.batches import Reader, eval_batches, training_batches
from train.data.image_store import ImageSet
from train.predictions import Predictions
from train.run import console
from train.run.budget import micro_batch_line
from train.run.checkpoints import Checkpoints, Position
from train.run.directory import check_output_dir
from train.run.dry_run import dry_run_json, dry_run_rows, dry_run_text
from train.run.evaluation import settled_batch_size
from train.run.phase_estimates import largest
from train.run.pooling import pooling_way, pools
from train.run.prepare import Setting, prepare
from train.run.progress import batch_bar, step_bar
from train.run.recorder import Recorder
from train.run.result import RunResult
from train.run.resume import reopen
from train.run.selecting import LayerChooser, stability
from train.run.tuning import tune
from train.run.twin import find_twin
from train.schedule.base import Job, TrainingSchedule
from train.schedule.registry import schedule_for
from train.trainer import EpochResult

OUT_OF_MEMORY = (
    "out of memory; a smaller --batch_size or --rho, --memory_budget or --selection_mode strips "
    "take less (--plan says how much)"
)


# What is done with a run that went to its end: setting, network, latest selection, folder.
Afterwards = Callable[[Setting, Network, Selection, Path], None]


def run(
    config: RunConfig, resumed: Optional[Path] = None, afterwards: Optional[Afterwards] = None
) -> Optional[RunResult]:
    """One run of ``main.py``; prints as it goes and leaves ``<output_dir>/<run_name>/``.

    Args:
        resumed: the folder of an earlier run to go on with, of which ``config`` is.
        afterwards: called at the end, when everything is written.

    Returns:
        Its result; None if it was finished before.

    Raises:
        UserError: the configuration cannot be run; no run directory is left, unless steps were
            taken before that came out.
        RunError: activations or a loss are not finite; what was measured is left.
        KeyboardInterrupt, BrokenPipeError (of standard output), and whatever else: likewise.
    """
    started = time.perf_counter()
    reopened = None
    if resumed is None:
        check_output_dir(config)
    else:
        reopened = reopen(resumed, config)
        if reopened is None:
            print(f"{resumed} is finished (its result.json says completed): nothing to go on with")
            return None
        print(*reopened.notes, sep="\n", flush=True)
    setting, network = prepare(config)
    recorder = Recorder(setting, network, started)
    # From here on the recorder alone holds it: where training goes on with a smaller one, it has
    # to be freed.
    del network
    try:
        if reopened is None:
            recorder.begin()
        else:
            recorder.go_on_in(reopened)
        carry_out(setting, recorder, None if reopened is None else reopened.archive)
    except UserError as error:
        recorder.give_up(str(error))
        raise
    except (KeyboardInterrupt, BrokenPipeError):
        with no_signals():
            recorder.finish("interrupted")
        raise
    except RunError as error:
        recorder.finish("failed", str(error))
        raise
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        recorder.finish("failed", OUT_OF_MEMORY)
        raise RunError(OUT_OF_MEMORY) from error
    except Exception as error:
        # A bug, a full disk, too little memory: what was measured is written down all the same.
        recorder.finish("failed", in_one_line(error))
        raise
    with no_signals():  # it is all there: who ends it now has not interrupted anything
        result = recorder.finish("completed")
    assert result is not None
    if afterwards is not None:
        selection, path = recorder.stage.selection, recorder.directory.path
        afterwards(recorder.setting, recorder.network, selection, path)
    return result


def carry_out(setting: Setting, recorder: Recorder, archive: Optional[Archive] = None) -> None:
    """Select, and train unless the selection is all that was asked for.

    Args:
        archive: the checkpoint to go on from.
    """
    print(console.opening(recorder.network, setting, recorder.directory.path), flush=True)
    if setting.config.learning_rate == TUNE:
        setting = recorder.take_rate(tune(setting, recorder.network, recorder.meters))
    config, data = setting.config, setting.data
    if config.stability and archive is None:
        overlaps = stability(config, recorder.network, data)
        print(console.stability_lines(overlaps), flush=True)
    selecting = recorder.meters.selection
    choose = LayerChooser(config, data, selecting)
    if config.select_only or config.plan:
        _only_select(setting, recorder, choose)
        return
    schedule = schedule_for(
        Job(config, data, setting.rates, setting.given, choose, selecting, setting.head_rates)
    )
    note = schedule.note(recorder.network)
    if note:
        print(note, flush=True)
    checkpoints = Checkpoints(config.checkpoint_every, recorder, schedule, choose)
    if archive is not None:
        position = checkpoints.restore(archive)
    elif _begins(setting, recorder, schedule):
        position = Position()
        checkpoints.save(position)  # the selection need not be made again
    else:
        return
    _train(setting, recorder, schedule, checkpoints, position)


def _only_select(setting: Setting, recorder: Recorder, choose: LayerChooser) -> None:
    """``--select_only``: why each layer was selected; ``--plan``: what training would take."""
    config, network = setting.config, recorder.network
    selection = choose(network)
    recorder.add_selection(selection)
    if config.select_only:
        print(console.selection_table(selection), flush=True)
    if config.plan:
        rows = dry_run_rows(
            config, network, selection, lambda rho: choose.at(selection, network, rho)
        )
        recorder.directory.write_json("plan.json", dry_run_json(rows))
        print(dry_run_text(config, rows, selection), flush=True)


def _begins(setting: Setting, recorder: Recorder, schedule: TrainingSchedule) -> bool:
    """Enter the first stage; whether it is to be trained, or was only evaluated, or elsewhere."""
    config = setting.config
    recorder.enter(schedule.first_stage(recorder.network))
    trained = recorder.stage.trainer.trained
    network = recorder.network
    recorder.settle(selection_mode=pooling_way(config, network).mode if pools(config) else None)
    _settle_sizes(config, recorder)
    if trained and config.num_epochs and config.max_steps != 0:
        twin = None
        if config.reuse_runs is not None:
            twin = find_twin(Path(config.reuse_runs), recorder.directory.path)
        if twin is not None:
            recorder.take_over(twin)
        return twin is None
    recorder.add_epoch(0, EpochResult.nothing(), *_evaluate(setting, recorder, 0))
    return False


def _settle_sizes(config: RunConfig, recorder: Recorder) -> None:
    """Images at a time, of evaluation and training, by what is trained now."""
    trainer = recorder.stage.trainer
    micro_batch = trainer.micro_batch
    recorder.settle(
        eval_batch_size=settled_batch_size(config, recorder.network, trainer.trained),
        micro_batch=micro_batch,
    )
    line = micro_batch_line(config, micro_batch)
    if line:
        print(line, flush=True)


def _train(
    setting: Setting,
    recorder: Recorder,
    schedule: TrainingSchedule,
    checkpoints: Checkpoints,
    position: Position,
) -> None:
    """Retrain what the schedule says, from ``position`` on.

    The stage has no local name: it would keep a replaced network alive.
    """
    config = setting.config
    with recorder.tensorboard():
        while True:
            epoch, begun = position.epoch, position.progress.batches > 0
            if epoch > 1 and not begun:
                recorder.enter(schedule.next_stage(recorder.stage, epoch))
                if epoch == config.head_epochs + 1:  # more is trained now than the head
                    _settle_sizes(config, recorder)
            _train_epoch(setting, recorder, checkpoints, position)
            ended = epoch == config.all_epochs or recorder.steps == config.max_steps
            tested = ended or epoch % config.eval_every == 0
            seen = _evaluate(setting, recorder, epoch) if tested else (None, None)
            recorder.add_epoch(epoch, position.progress.result(), *seen)
            recorder.save_weights(ended)
            if ended:
                return
            position = Position(epoch + 1)
            checkpoints.after_epoch(epoch)


def _train_epoch(
    setting: Setting, recorder: Recorder, checkpoints: Checkpoints, position: Position
) -> None:
    """What is left of the epoch, in parts between checkpoints; brings ``position`` up to date."""
    config, progress, meter = setting.config, position.progress, recorder.meters.training
    part, reader = recorder.stage.trainer.micro_batch, recorder.stage.readers.train
    batches = training_batches(config, setting.data, position.epoch, progress.batches, part, reader)
    title = f"epoch {position.epoch}/{config.all_epochs}"
    over = False
    with step_bar(title, setting.steps_per_epoch, progress.batches) as on_step:
        while not over:
            with meter:
                over = recorder.stage.trainer.train_part(
                    batches, progress, on_step, config.max_steps, checkpoints.due_now
                )
            progress.allocator_peak = largest(progress.allocator_peak, meter.latest_allocator_peak)
            if checkpoints.due_now():
                checkpoints.save(position)


def _evaluate(
    setting: Setting, recorder: Recorder, epoch: int
) -> tuple[Predictions, Optional[Predictions]]:
    """Of the test images, and of the validation images if there are any."""
    readers, validation = recorder.stage.readers, setting.data.validation
    test = _evaluate_on(recorder, f"test {epoch}", setting.test_images, readers.test)
    if validation is None:
        return test, None
    title = f"validation {epoch}"
    return test, _evaluate_on(recorder, title, validation, readers.validation)


def _evaluate_on(
    recorder: Recorder, title: str, images: ImageSet, reader: Optional[Reader]
) -> Predictions:
    size = recorder.eval_batch_size
    bar = batch_bar(title, math.ceil(len(images) / size))
    with recorder.meters.evaluation, bar as on_batch:
        batches = eval_batches(images, size, reader)
        return recorder.stage.trainer.evaluate(batches, on_batch)
