"""README and docs/: what they tell people to type works, and what they point to is there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import tensorflow as tf

from device.options import build_parser as build_device_parser
from main import main
from reproduce import __main__ as reproduce
from reproduce.command_line import build_parser as build_reproduce_parser
from reproduce.command_line import parse as parse_reproduce
from tests.error_messages import messages
from train.config.command_line import build_parser, parse_args
from train.config.flag_combinations import RULES

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks/results.md")
)


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def typed(start: str) -> list:
    """The indented commands that begin with ``start``: (document, words)."""
    found = []
    for document in DOCUMENTS:
        joined = text_of(document).replace("\\\n", " ")
        for line in re.findall(rf"^    ({re.escape(start)} .*)$", joined, re.MULTILINE):
            words = shlex.split(line, comments=True)
            found.append(pytest.param(words, id=f"{document}: {' '.join(words)}"))
    return found


@pytest.mark.parametrize("words", typed("python main.py"))
def test_a_command_of_main_is_one(words, monkeypatch, tmp_path, capsys):
    (tmp_path / "runs/NAME").mkdir(parents=True)  # stands for a run of the reader's
    (tmp_path / "runs/NAME/config.json").write_text("{}")
    if "mine.keras" in words:  # and for a model
        pixels = tf.keras.Input((224, 224, 3))
        tf.keras.Model(pixels, tf.keras.layers.Conv2D(2, 3)(pixels)).save(tmp_path / "mine.keras")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        parse_args([*words[2:], "--print_config"])
    assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("words", typed("python -m reproduce"))
def test_a_command_of_reproduce_is_one(words, monkeypatch, tmp_path, capsys):
    for place in ("DATA", "WEIGHTS"):  # stand for the reader's own
        (tmp_path / place).touch()
    (tmp_path / "PICTURES").mkdir()
    monkeypatch.chdir(tmp_path)
    parse_reproduce(words[3:])
    if words[3] != "list":
        words = [*words[:4], "--plan", *(word for word in words[4:] if word != "--plan")]
    assert reproduce.main(words[3:]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("words", typed("python -m device.retrain"))
def test_a_command_of_the_device_is_one(words):
    assert build_device_parser().parse_args(words[3:]).images


def test_there_are_commands():
    """Else the two tests above check nothing."""
    assert len(typed("python main.py")) >= 4
    assert len(typed("python -m reproduce")) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [one for one in typed("python main.py") if "digitnet" in one.id and "prune" not in one.id],
)
def test_a_command_without_downloads_runs(words, tmp_path):
    assert main([*words[2:], "--output_dir", str(tmp_path), "--max_steps", "3"]) == 0
    (run,) = tmp_path.iterdir()
    assert json.loads((run / "result.json").read_text())["status"] == "completed"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_nothing_is_left_to_be_filled_in(document):
    assert not re.search(r"@@|TODO|TBD|XXX|FIXME", text_of(document))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)", text_of(document)):
        if not target.startswith("http"):
            assert (ROOT / document).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name != "CHANGELOG.md"])
def test_files_that_are_named_are_there(document):
    suffixes = "py|toml|txt|json|md"
    names = re.findall(rf"`((?:[a-z_]+/)+[\w.-]+\.(?:{suffixes})|[a-z_/]+/)`", text_of(document))
    for name in names:
        if (
            not name.startswith(("runs/", "tensorboard/", "checkpoints/", "reports/<"))
            and name != "test/"
        ):
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name != "CHANGELOG.md"])
def test_flags_that_are_named_exist(document):
    parsers = (build_parser(), build_reproduce_parser(), build_device_parser())
    known = {flag for one in parsers for action in one._actions for flag in action.option_strings}
    named = set(re.findall(r"`(--[\w-]+)", text_of(document)))
    assert named <= known | {"--no-FLAG"}


def test_the_readme_is_short():
    assert len(text_of("README.md").splitlines()) <= 150


def test_every_message_is_listed_with_its_remedy():
    rows = re.findall(r"^\| `(.+)` \| (.+) \|$", text_of("docs/errors.md"), re.MULTILINE)
    rules = {", ".join(f"--{flag}" for flag in rule.flags) for rule in RULES}
    listed = {message.replace("`", "") for message, remedy in rows if remedy.strip()} - rules
    assert listed == messages()


def test_every_rule_of_flags_is_listed():
    document = text_of("docs/errors.md")
    for rule in RULES:
        flags = ", ".join(f"`--{flag}`" for flag in rule.flags)
        assert f"| {flags} | {rule.words} |" in document
