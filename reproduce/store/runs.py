"""What a run of a sweep is (:class:`RunSpec`), and where its results lie (:class:`Store`)."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from common.errors import UserError
from common.files import content_digest, read_json, read_lines, user_path
from reproduce.store.reported import ReportedRun
from train.checkpoint.ended import is_completed
from train.config.command_line import parse_args
from train.config.run_config import RunConfig
from train.data.layouts.table import named_files

# Raise it when a change of the code changes what a run of the same settings comes to.
RESULTS_VERSION = 1

# A new setting is part of the key, so results from before it count as missing. Listed here with
# the value that does what was done before there was that setting, they go on counting.
ADDED_SETTINGS: Mapping[str, Any] = {
    "step_times": False,
    "skip_bad_images": False,
    "micro_batch": None,
    "homology": None,  # the number is the same
    "augment_draws": None,
    "cache_features": None,
    "recompute": None,
    "keep_head": False,
    "preprocessing": None,
    "split_seed": 0,
    "knapsack": "time",
    "budget_for": "run",
    "fill_budget": False,
    "head_epochs": 0,
    "head_learning_rate": None,
    "warmup_epochs": 0,
    "clip_norm": None,
    "clip_adaptive": None,
    "validation_split": None,
    "shift": None,
    "shift_severity": 3,
    "shift_seed": 0,
    "lora_rank": 4,
}

# Where things lie, and what is printed. With dataset_name 'folder', data_dir is the data itself.
_NOT_IN_KEY = (
    "output_dir",
    "run_name",
    "data_dir",
    "cache_dir",
    "download",
    "memory_accounting",
    "checkpoint_every",
    "reuse_runs",
    "export",
    "export_batch",
)
_PATHS = ("data_dir", "cache_dir", "weights", "selection_file")
_REFUSED = ("output_dir", "run_name", "profile_file", "reuse_runs", "export")


@dataclass(frozen=True, eq=False)
class RunSpec:
    """One run of ``main.py``: its flags, without dashes. Equal if the key is.

    Flags that are None or False are left out, so they stand for the default. Relative paths are
    of the current folder.

    Raises:
        UserError: ``main.py`` would refuse the flags, or they say where the run is to be written.
    """

    flags: Mapping[str, Any]

    def __post_init__(self) -> None:
        flags = {
            name: _absolute(name, value) if name in _PATHS else value
            for name, value in sorted(self.flags.items())
            if value is not None and value is not False
        }
        object.__setattr__(self, "flags", flags)
        for name in _REFUSED:
            if name in flags:
                raise UserError(f"--{name} cannot be given to the runs of a sweep")
        self.config  # noqa: B018  (validates)

    def argv(self) -> list[str]:
        """The flags as ``main.py`` takes them."""
        words = []
        for name, value in self.flags.items():
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        return words

    def resume_argv(self, run: Path) -> list[str]:
        """As ``main.py`` takes it to go on with this run, which an earlier process left in ``run``.

        Data and weights may lie elsewhere now.
        """
        words = ["--resume", str(run)]
        for name in ("data_dir", "cache_dir", "weights"):
            if name in self.flags:
                words += [f"--{name}", self.flags[name]]
        return words

    @functools.cached_property
    def config(self) -> RunConfig:
        """The flags and all defaults, resolved."""
        return parse_args(self.argv())

    @functools.cached_property
    def configuration(self) -> dict:
        """What the key is the hash of: everything that decides what comes out of the run.

        That is every setting of ``RunConfig`` (aliases and the paper's defaults filled in), however
        it was written on the command line, except where things lie (``output_dir``, ``run_name``,
        ``data_dir``, ``cache_dir``, ``download``), what is only printed (``memory_accounting``),
        how often a run can be resumed (``checkpoint_every``), what it need not train again
        (``reuse_runs``) and what else is made of it (``export``). In place of a file (``weights``,
        ``selection_file``) stands the SHA-256 of its content; ``data`` is that of the names and
        contents of the files in ``data_dir`` (of a CSV file, its own and those of the pictures that
        it names; for a TFDS set of that set's, and not with ``--download``, which changes them);
        and ``results_version`` stands for the code (``RESULTS_VERSION``). Versions of packages,
        the device and the commit are not in it: a run records them.

        Raises:
            UserError: a file cannot be read.
        """
        settings = self.config.to_json()
        data_dir = settings["data_dir"]
        for name in _NOT_IN_KEY:
            del settings[name]
        for name, before in ADDED_SETTINGS.items():
            if settings[name] == before:
                del settings[name]
        if settings["weights"] not in ("imagenet", "digits", "none"):
            settings["weights"] = _digest_of_file("weights", settings["weights"])
        if settings["selection_file"] is not None:
            settings["selection_file"] = _digest_of_file(
                "selection_file", settings["selection_file"]
            )
        if data_dir is not None and not self.config.download:
            settings["data"] = _digest_of_data(settings["dataset_name"], data_dir)
        return {"results_version": RESULTS_VERSION, **settings}

    @functools.cached_property
    def key(self) -> str:
        """16 hexadecimal digits, the same on every machine; see :attr:`configuration`."""
        return hash_of(self.configuration)

    @property
    def name(self) -> str:
        """The name of the run's folder, readable and ending in the key."""
        config = self.config
        words = f"{config.model_name}-{config.dataset_name}-{config.train_type}-{self.key}"
        return words.replace("/", "_").replace(":", "_")

    @property
    def title(self) -> str:
        """What was asked for beside the defaults, for a person."""
        config = self.config
        named = ("model_name", "dataset_name", "train_type", *_PATHS, "download")
        rest = [f"{key}={value}" for key, value in self.flags.items() if key not in named]
        return " ".join([config.model_name, config.dataset_name, config.train_type, *rest])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunSpec) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


class Store:
    """The results of runs, one folder each, under ``root``.

    A folder appears whole, when its run has ended well, and never changes. Beside what ``main.py``
    leaves (docs/running.md) it has ``sweep.json`` (who ran it, and how) and ``output.log``. A run
    that failed leaves ``failed/<name>.json``; one that was killed, its checkpoints in
    ``.work/<name>/run``, from which the next attempt goes on.

    Args:
        reported: runs by name of which only a report's record is at hand: they count as done.
    """

    def __init__(
        self, root: Path | str, reported: Optional[Mapping[str, ReportedRun]] = None
    ) -> None:
        self.root = user_path(root, "--runs_dir").absolute()
        self._reported = reported or {}

    def directory(self, spec: RunSpec) -> Path:
        """Where the results are, or will be."""
        return self.root / spec.name

    def state(self, spec: RunSpec) -> str:
        """``done``, ``failed`` (it would fail again) or ``missing``."""
        if is_completed(self.directory(spec)) or spec.name in self._reported:
            return "done"
        failure = self.failure(spec)
        return "failed" if failure and failure["final"] else "missing"

    def why_missing(self, spec: RunSpec) -> Optional[str]:
        """A few words for a cell without a value; None if the run is done."""
        if self.state(spec) == "done":
            return None
        failure = self.failure(spec)
        return failure["error"] if failure else "not run"

    def failure(self, spec: RunSpec) -> Optional[dict]:
        """How the latest attempt ended, if it ended badly.

        ``error`` one line; ``final``: whether it would fail again (not so if it was killed, or
        the flags, data or weights were the problem); ``status`` the exit status; ``output`` the
        last lines; ``host``, ``ended`` (ISO 8601, UTC).
        """
        if is_completed(self.directory(spec)):
            return None
        path = self.failure_file(spec)
        return read_json(path) if path.exists() else None

    def failure_file(self, spec: RunSpec) -> Path:
        """Where :meth:`failure` is written."""
        return self.root / "failed" / f"{spec.name}.json"

    def result(self, spec: RunSpec) -> dict:
        """``result.json`` (``train/run/result.py``). FileNotFoundError if the run is not done."""
        return self._json(spec, "result.json")

    def config(self, spec: RunSpec) -> dict:
        """``config.json``: the settings, and ``environment``: commit, device, versions."""
        return self._json(spec, "config.json")

    def selection(self, spec: RunSpec) -> dict:
        """``selection.json``: the latest selection."""
        return self._json(spec, "selection.json")

    def about(self, spec: RunSpec) -> dict:
        """``sweep.json``: who ran it, and how.

        ``key``, ``title``, ``configuration``, ``flags``; ``command`` of the sweep, ``commit``,
        ``device``, ``host``; ``gpu`` (None for the CPU); ``workers``: runs at a time on that
        machine, which tells whether times can be trusted (None if not known: Ray); ``seconds`` of
        the whole process, ``ended`` (ISO 8601, UTC).
        """
        return self._json(spec, "sweep.json")

    def abouts(self) -> Iterator[dict]:
        """:meth:`about` of every run that is there, by name."""
        return map(read_json, sorted(self.root.glob("*/sweep.json")))

    def selected(self, spec: RunSpec) -> Optional[list[int]]:
        """Indices of the layers of the latest selection; None where that is not known."""
        reported = self.reported(spec)
        if reported is None:
            return selected_layers(self.directory(spec))
        return reported.source["record"].get("selected")

    def metrics(self, spec: RunSpec) -> list[dict]:
        """The lines of ``metrics.jsonl``, one per epoch; empty where nothing was trained."""
        return self._lines(spec, "metrics.jsonl")

    def selections(self, spec: RunSpec) -> list[dict]:
        """The lines of ``selections.jsonl``; empty where layers were chosen once or never."""
        return self._lines(spec, "selections.jsonl")

    def reported(self, spec: RunSpec) -> Optional[ReportedRun]:
        """Its record in a report, where that is all there is of it."""
        return None if is_completed(self.directory(spec)) else self._reported.get(spec.name)

    def reported_sources(self) -> dict[str, Mapping[str, Any]]:
        """By name of a run, all that records were given of."""
        return {name: run.source for name, run in self._reported.items()}

    def _json(self, spec: RunSpec, name: str) -> dict:
        reported = self.reported(spec)
        if reported is None:
            return read_json(self.directory(spec) / name)
        if name not in reported.files:
            raise UserError(
                f"--records: what a report keeps of a run has no {name}, which this one needs; "
                "leave --records out"
            )
        return reported.files[name]

    def _lines(self, spec: RunSpec, name: str) -> list[dict]:
        reported = self.reported(spec)
        return read_lines(self.directory(spec) / name) if reported is None else reported.lines[name]


def selected_layers(run: Path) -> Optional[list[int]]:
    """Indices of the layers that a run selected last; None where it selected none."""
    try:
        rows = read_json(run / "selection.json")["layers"]
    except FileNotFoundError:
        return None
    return [row["index"] for row in rows if row["selected"]]


def hash_of(configuration: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of the SHA-256 of ``configuration`` as JSON, keys sorted."""
    text = json.dumps(configuration, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _absolute(flag: str, value: str) -> str:
    if value in ("imagenet", "digits", "none", "auto"):
        return value
    return str(user_path(value, f"--{flag}").absolute())


def _digest_of_file(flag: str, name: Union[str, Path]) -> str:
    path = Path(name)
    try:
        status = path.stat()
        return _digest(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise UserError(f"--{flag} {name}: {error.strerror}") from error


@functools.cache
def _digest(path: Path, size: int, modified: int) -> str:  # noqa: ARG001  (they are the cache's)
    return f"sha256:{content_digest(path, 'sha256')}"


def _digest_of_data(dataset: str, data_dir: str) -> str:
    root = Path(data_dir)
    if dataset != "folder":  # NAME, NAME/CONFIG or NAME:VERSION; other sets lie beside it
        root /= dataset.split(":")[0].split("/")[0]
    listing = [(name, _digest_of_file("data_dir", path)) for name, path in _files_of_data(root)]
    return "sha256:" + hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _files_of_data(root: Path) -> list[tuple[str, Path]]:
    """Those in a folder; or a table, and those that it names."""
    named = named_files(root)
    if named is not None:
        return [("", root), *sorted(one for one in named if one[1].is_file())]
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [(path.relative_to(root).as_posix(), path) for path in files]
