"""Any command line is a configuration, or one line and exit status 2; never a traceback.

More of them: ADABET_FUZZ=5000 make test ARGS="-k command_line_fuzz"
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.program import exit_status
from models.registry import BACKBONES
from selection.registry import TRAIN_TYPES
from train.config.command_line import is_switch, parse_args
from train.config.run_config import RunConfig
from train.report.settings import OF_THE_PLACE, command, shown_value

EXAMPLES = int(os.environ.get("ADABET_FUZZ", "500"))
FLAGS = [entry.name for entry in fields(RunConfig)]
SWITCHES = {entry.name for entry in fields(RunConfig) if is_switch(entry)}
CHOICES = {
    entry.name: tuple(entry.metadata["argparse"]["choices"])
    for entry in fields(RunConfig)
    if "choices" in entry.metadata["argparse"]
}
CHOICES["train_type"] = tuple(TRAIN_TYPES)
CHOICES["model_name"] = tuple(BACKBONES)

many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

numbers = st.one_of(
    st.integers(1, 8),  # good for most flags
    st.integers(-3, 300),
    st.integers(),
    st.floats(0, 1),
    st.floats(),
    st.sampled_from(["1e400", "-0", "0x10", "1_000", "٣", "1e3", "nan", "inf", "5min", "0min"]),
).map(str)
words = st.one_of(
    st.sampled_from(
        ["auto", "none", "imagenet", "digits", "folder", "cifar10", "", "-", "--", "=", "~", "~x"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
)


@st.composite
def flag(draw) -> list[str]:
    """A flag with a value, more often a good one than not; or something else altogether."""
    name = draw(st.sampled_from(FLAGS))
    kind = draw(st.integers(0, 19))
    if kind == 0:
        return [draw(words)]
    if kind == 1:
        return [f"--{draw(words)}", draw(words)]
    if kind == 2:
        return [f"--{name}"]
    if name in SWITCHES:
        return [f"--{draw(st.sampled_from(['', 'no-']))}{name}"]
    if kind < 5:
        value = draw(words)
    elif name in CHOICES and kind < 18:
        value = draw(st.sampled_from(CHOICES[name]))
    else:
        value = draw(numbers)
    return [f"--{name}={value}"] if draw(st.booleans()) else [f"--{name}", value]


def lines(argv: list[str], capsys) -> tuple[int, str]:
    """Exit status and standard error of parsing and validation, as main.py has them."""
    capsys.readouterr()

    def parse() -> int:
        parse_args(argv)
        return 0

    try:
        status = exit_status("main.py", parse)
    except SystemExit as ended:  # --help, --print_config
        status = int(ended.code or 0)
    return status, capsys.readouterr().err


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(parts=st.lists(flag(), max_size=6))
def test_any_command_line(parts, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    argv = [word for part in parts for word in part]
    status, errors = lines(argv, capsys)
    if status:
        assert status == 2
        assert errors.startswith("main.py: error: ") and errors.count("\n") == 1, errors
    elif not {"-h", "--help", "--print_config"} & set(argv):
        assert not errors
        config = parse_args(argv)
        (tmp_path / "config.json").write_text(json.dumps(config.to_json()))
        assert parse_args(["--config", "config.json"]) == config
        shown = command(config.to_json()).replace(" \\\n    ", " ")  # as a run's page has it
        assert as_others_see_it(parse_args(shlex.split(shown)[2:])) == as_others_see_it(config)


def as_others_see_it(config: RunConfig) -> dict:
    """Without what lies where."""
    return {
        name: shown_value(name, value)
        for name, value in config.to_json().items()
        if name not in OF_THE_PLACE
    }


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    content=st.dictionaries(
        st.sampled_from([*FLAGS, "inputs", "settled", "nonsense"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-3, 300)
            | st.floats()
            | words
            | st.sampled_from([choice for choices in CHOICES.values() for choice in choices]),
            lambda inner: st.lists(inner, max_size=2),
            max_leaves=3,
        ),
        max_size=5,
    )
)
def test_any_configuration_file(content, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.json").write_text(json.dumps(content))
    status, errors = lines(["--config", "c.json"], capsys)
    assert status in (0, 2)
    assert errors.count("\n") == (1 if status else 0), errors


def test_the_generator_makes_both():
    """Or the first test would prove little."""
    good = bad = 0

    @settings(max_examples=400, deadline=None, database=None, derandomize=True)
    @given(parts=st.lists(flag(), max_size=6))
    def count(parts):
        nonlocal good, bad
        try:
            parse_args([word for part in parts for word in part])
            good += 1
        except (UserError, SystemExit):
            bad += 1

    count()
    assert good > 20 and bad > 20, (good, bad)


@pytest.mark.parametrize("word", ["\0", "a\0b"])
def test_a_zero_byte_is_refused(word, capsys):
    status, errors = lines(["--run_name", word], capsys)
    assert status == 2 and errors.count("\n") == 1
