"""A table or figure of the paper, and what the command line asks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from common.errors import UserError
from reproduce.report.report import Report
from reproduce.store.runs import RunSpec, Store
from selection.registry import train_type_named
from train.config import paper_constants as paper
from train.config.flag_combinations import without_effect
from train.config.run_config import RunConfig


@dataclass(frozen=True)
class Options:
    """What the command line asks of an item; what it left out is the item's own default.

    Attributes:
        models, datasets, methods: names in full (no aliases), in the order of the table.
        tasks: as ``reproduce.league.tasks`` reads them.
        seeds: runs per cell, of seeds 0, 1, ...
        epochs: in place of the paper's; None for those.
        weights: ``{model: file}`` instead of a download.
        pictures: ``{data set: folder}`` of pictures to take in place of it, such as the part of it
            that is at hand; results do not compare with the paper's.
        flags: flags of ``main.py`` for every run (``data_dir``, ``cache_dir``, and what stands
            after ``--`` on the command line).
    """

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    seeds: int = 3
    epochs: Optional[int] = None
    weights: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)

    def spec(self, model: str, dataset: str, method: str, seed: int = 0, **flags: Any) -> RunSpec:
        """The run of ``method`` (a train type) with ``flags``, and what the user asked for.

        Flags that are for every run are left out where they do nothing with ``method``.

        Raises:
            UserError: the user's flags contradict ``flags``, or ``main.py`` would refuse them.
        """
        folder = self.pictures.get(dataset)
        data = (
            {"dataset_name": "folder", "data_dir": folder} if folder else {"dataset_name": dataset}
        )
        own = {
            "model_name": model,
            **data,
            "train_type": method,
            "seed": seed or None,
            **flags,
        }
        everywhere = {
            name: one for name, one in self.flags.items() if not (folder and name == "data_dir")
        }
        fixed = [name for name in everywhere if name in own or name in ("seed", "num_epochs")]
        if fixed:
            raise UserError(
                f"--{fixed[0]} cannot be given for every run: it is set by the table or figure "
                "itself, or by --models, --datasets, --methods, --seeds and --epochs"
            )
        plain = RunConfig(
            dataset_name=data["dataset_name"], train_type=train_type_named(method).name
        )
        asked = {
            name: value for name, value in everywhere.items() if not without_effect(plain, name)
        }
        given = {"num_epochs": self.epochs, "weights": self.weights.get(model), **asked}
        if folder:  # main.py does not know what the pictures are of
            given = {"learning_rate": paper.learning_rate(model, dataset), **given}
        return RunSpec({**given, **own})


@dataclass(frozen=True)
class Item:
    """A table or figure of the paper.

    Attributes:
        name: on the command line.
        needs: data and weights, in words.
        specs: the runs, in the order in which they are to be started.
        build: the report, from what is done; a run that is missing is a marked cell.
        follow_up: runs that can be told only from results of ``specs`` (such as those with
            ``selection_file``). It is asked again after each round until nothing new comes, and
            must leave out what depends on runs that are not done.
        models, datasets, methods, tasks: the defaults of the options of that name; empty if the
            item has no such choice.
        seeds: default of ``--seeds``; 0 if there is no such choice.
        timed: its values are times or memory of the process, so that other runs on the machine
            would disturb them: one at a time, unless ``--workers`` says otherwise.
    """

    name: str
    title: str
    needs: str
    specs: Callable[[Options], list[RunSpec]]
    build: Callable[[Store, Options], Report]
    follow_up: Optional[Callable[[Options, Store], list[RunSpec]]] = None
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    seeds: int = 3
    timed: bool = False
