"""The records that travel come back from their JSON as they were."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from reproduce.report.tables import Cell, Table, read_tables
from selection.registry import TRAIN_TYPES
from selection.selection import LayerChoice, Selection, load_selection
from train.config.command_line import parse_args
from train.config.run_config import RunConfig

SOME = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # a file that is overwritten
)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SHARES = st.floats(0, 1)
CHANNELS = st.lists(st.integers(0, 7), min_size=1, unique=True).map(sorted)

REQUIRED: dict[str, st.SearchStrategy[Any]] = {
    "model_name": st.sampled_from(["digitnet", "mobilenetv2", "resnet50", "vgg16"]),
    "dataset_name": st.sampled_from(["digits", "cub200", "flowers102", "cifar10"]),
    "train_type": st.sampled_from([e.name for e in TRAIN_TYPES.values() if e.uses_rho]),
}
OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "rho": st.floats(0.01, 1),
    "batch_size": st.integers(1, 512),
    "num_epochs": st.integers(1, 99),
    "learning_rate": st.floats(1e-9, 1e3),
    "weight_decay": SHARES,
    "seed": st.integers(0, 2**31 - 1),
    "frozen": st.sampled_from(["lean", "stock"]),
    "head": st.sampled_from(["ranked", "always"]),
    "rotation": st.floats(0, 0.5),
    "run_name": st.from_regex(r"[a-z][a-z0-9_-]{0,9}", fullmatch=True),
    "max_steps": st.integers(1, 10**9),
    "eval_batch_size": st.just("auto") | st.integers(1, 512),
}


@SOME
@given(st.fixed_dictionaries(REQUIRED, optional=OPTIONAL))
def test_a_configuration_is_its_file(tmp_path, settings_given):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(settings_given))
    config = parse_args(["--config", str(path)])
    words = [word for name, value in settings_given.items() for word in (f"--{name}", str(value))]
    assert parse_args(words) == config
    path.write_text(json.dumps(config.to_json()))
    assert parse_args(["--config", str(path)]) == config
    assert set(config.to_json()) == {field.name for field in fields(RunConfig)}


@st.composite
def selections(draw) -> Selection:
    count = draw(st.integers(1, 6))
    rows = []
    for index in range(count):
        on = draw(st.booleans())
        channels = draw(
            st.none() | st.lists(st.integers(0, 7), min_size=1, unique=True).map(sorted)
        )
        rows.append(
            LayerChoice(
                index=index,
                name=draw(WORDS),
                type=draw(st.sampled_from(["Conv2D", "BatchNormalization", "Dense"])),
                b1=draw(st.none() | st.integers(0, 10**6)),
                activation_size=draw(st.integers(1, 10**9)),
                params=draw(st.integers(1, 10**9)),
                score=draw(st.none() | NUMBERS),
                rank=draw(st.none() | st.integers(1, count)),
                size_rank=index + 1,
                selected=on,
                variables=(0,) if on else (),
                channels=tuple(channels) if on and channels else None,
            )
        )
    return Selection(
        train_type=draw(st.sampled_from(sorted(TRAIN_TYPES))),
        rho=draw(st.none() | SHARES),
        num_layers=count,
        num_selected=sum(row.selected for row in rows),
        samples=draw(st.integers(0, 1000)),
        seconds=draw(st.floats(0, 1e6)),
        ties_at_cut=draw(st.integers(0, count)),
        overlap_with_smallest=_smallest(rows),
        layers=tuple(rows),
        figures=draw(st.dictionaries(WORDS, NUMBERS | st.integers(), max_size=3)),
    )


def _smallest(rows) -> int:
    count = sum(row.selected for row in rows)
    return sum(row.selected and row.size_rank <= count for row in rows)


@SOME
@given(selections())
def test_a_selection_is_its_file(tmp_path, selection):
    path = tmp_path / "selection.json"
    path.write_text(json.dumps(selection.to_json(), allow_nan=False))
    layers: list[Any] = [
        SimpleNamespace(
            **{name: getattr(row, name) for name in ("index", "name", "type", "params")},
            variables=[None],
            activation=SimpleNamespace(shape=(None, 8)),
        )
        for row in selection.layers
    ]
    assert load_selection(str(path), layers) == selection


CELLS = st.builds(
    Cell,
    ours=st.lists(NUMBERS, max_size=3).map(tuple),
    paper=st.none() | NUMBERS,
    missing=WORDS,
    text=WORDS,
    comparable=st.booleans(),
)


@SOME
@given(st.lists(st.tuples(WORDS, st.tuples(CELLS, CELLS)), max_size=3), WORDS, st.integers(0, 4))
def test_a_table_is_its_file(rows, words, digits):
    table = Table(words, words, ("a", words), tuple(rows), words, digits, "highest", ((words, 2),))
    assert read_tables({"tables": [json.loads(json.dumps(asdict(table)))]}) == (table,)
