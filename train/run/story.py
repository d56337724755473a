"""The story of one run, from top to bottom: configuration, data, network, selection, training."""

from __future__ import annotations

import math
import time

import tensorflow as tf

from common.errors import RunError, UserError, in_one_line
from common.signals import no_signals
from train.config.run_config import RunConfig
from train.data.batches import eval_batches, training_batches
from train.run import console
from train.run.directory import check_output_dir
from train.run.dry_run import dry_run_json, dry_run_rows, dry_run_text
from train.run.evaluation import settled_batch_size
from train.run.prepare import Setting, prepare
from train.run.progress import batch_bar, step_bar
from train.run.recorder import Recorder
from train.run.result import RunResult
from train.run.selecting import LayerChooser, stability
from train.schedule.base import Job, TrainingSchedule
from train.schedule.registry import schedule_for
from train.trainer import EpochResult

OUT_OF_MEMORY = (
    "out of memory; a smaller --batch_size or --rho, --memory_budget or --selection_mode pairs "
    "take less (--plan says how much)"
)


def run(config: RunConfig) -> RunResult:
    """One run of ``main.py``; prints as it goes and leaves ``<output_dir>/<run_name>/``.

    Raises:
        UserError: the configuration cannot be run; no run directory is left, unless steps were
            taken before that came out.
        RunError: activations or a loss are not finite; what was measured is left.
        KeyboardInterrupt, BrokenPipeError (of standard output), and whatever else: likewise.
    """
    started = time.perf_counter()
    check_output_dir(config)
    setting, network = prepare(config)
    recorder = Recorder(setting, network, started)
    # From here on the recorder alone holds it: where training goes on with a smaller one, it has
    # to be freed.
    del network
    try:
        recorder.begin()
        carry_out(setting, recorder)
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
    result = recorder.finish("completed")
    assert result is not None
    return result


def carry_out(setting: Setting, recorder: Recorder) -> None:
    """Select, and train unless the selection is all that was asked for."""
    config, data = setting.config, setting.data
    print(console.opening(recorder.network, setting, recorder.directory.path), flush=True)
    if config.stability:
        overlaps = stability(config, recorder.network, data)
        print(console.stability_lines(overlaps), flush=True)
    selecting = recorder.meters.selection
    choose = LayerChooser(config, data, selecting)
    if config.select_only or config.plan:
        _only_select(setting, recorder, choose)
        return
    schedule = schedule_for(Job(config, data, setting.rates, setting.given, choose, selecting))
    note = schedule.note(recorder.network)
    if note:
        print(note, flush=True)
    _train(setting, recorder, schedule)


def _only_select(setting: Setting, recorder: Recorder, choose: LayerChooser) -> None:
    """``--select_only``: why each layer was selected; ``--plan``: what training would take."""
    config, network = setting.config, recorder.network
    selection = choose(network)
    recorder.add_selection(selection)
    if config.select_only:
        print(console.selection_table(selection), flush=True)
    if config.plan:
        rows = dry_run_rows(config, network, selection, lambda rho: choose.at(network, rho))
        recorder.directory.write_json("plan.json", dry_run_json(rows))
        print(dry_run_text(config, rows, selection), flush=True)


def _train(setting: Setting, recorder: Recorder, schedule: TrainingSchedule) -> None:
    """Retrain what the schedule says, or only evaluate if nothing is to be trained.

    The stage has no local name: it would keep a replaced network alive.
    """
    config = setting.config
    recorder.enter(schedule.first_stage(recorder.network))
    trained = recorder.stage.trainer.trained
    recorder.settle_evaluation(settled_batch_size(config, recorder.network, trained))
    if not trained or not config.num_epochs or config.max_steps == 0:
        recorder.add_epoch(0, EpochResult.nothing(), _evaluate(setting, recorder, 0))
        return
    del trained
    with recorder.tensorboard():
        for epoch in range(1, config.num_epochs + 1):
            if epoch > 1:
                recorder.enter(schedule.next_stage(recorder.stage, epoch))
            result = _train_epoch(setting, recorder, epoch)
            ended = epoch == config.num_epochs or recorder.steps == config.max_steps
            tested = ended or epoch % config.eval_every == 0
            accuracy = _evaluate(setting, recorder, epoch) if tested else None
            recorder.add_epoch(epoch, result, accuracy)
            recorder.save_weights(ended)
            if ended:
                break


def _train_epoch(setting: Setting, recorder: Recorder, epoch: int) -> EpochResult:
    config = setting.config
    batches = training_batches(config, setting.data, epoch)
    bar = step_bar(f"epoch {epoch}/{config.num_epochs}", setting.steps_per_epoch)
    with recorder.meters.training, bar as on_step:
        return recorder.stage.trainer.train_epoch(batches, on_step, config.max_steps)


def _evaluate(setting: Setting, recorder: Recorder, epoch: int) -> float:
    images, size = setting.test_images, recorder.eval_batch_size
    bar = batch_bar(f"test {epoch}", math.ceil(len(images) / size))
    with recorder.meters.evaluation, bar as on_batch:
        return recorder.stage.trainer.evaluate(eval_batches(images, size), on_batch)
