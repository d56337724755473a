"""What was run, on what, and what to type to run it again."""

from __future__ import annotations

from typing import Any

from common.web_page import text
from train.report.record import RunRecord
from train.report.settings import command, given_settings, shown_value
from train.report.tables import Row, table, words


def facts(record: RunRecord) -> dict[str, str]:
    """Network, data, machine and versions, by what they are."""
    config, where = record.config, record.config["environment"]
    data = config["inputs"]["data"]
    packages = ", ".join(f"{name} {version}" for name, version in where["packages"].items())
    return {
        "network": (
            f"{record.model}, {record.result['total_parameters']:,} parameters, images of "
            f"{config['input_size']} pixels"
        ),
        "weights": began_with(record),
        "data set": (
            f"{record.dataset}: {data['classes']} classes, {data['train_images']:,} training and "
            f"{data['test_images']:,} test images{_validation(data)}"
        ),
        "machine": f"{where['device']}; {where['system'].split('-')[0]} on {where['machine']}",
        "versions": f"Python {where['python']}, {packages}",
        "commit": where["git_revision"] or "not known",
    }


def _validation(data: dict[str, Any]) -> str:
    held_out = data.get("validation_images")
    return f", {held_out:,} more to validate on" if held_out else ""


def began_with(record: RunRecord) -> str:
    """The weights, without the folder that a file of them lies in."""
    weights = record.config["weights"]
    return "random" if weights == "none" else shown_value("weights", weights)


def section(record: RunRecord) -> str:
    """HTML."""
    about = [Row((words(name), words(value))) for name, value in facts(record).items()]
    parts = [table("What was run, and where", (), about, wraps=True)]
    settings = given_settings(record.config)
    rows = [
        Row((words(f"--{name}", "name"), words(shown_value(name, value))))
        for name, value in settings.items()
    ]
    if rows:
        caption = "Settings that are not the defaults"
        parts.append(table(caption, ("flag", "value"), rows, wraps=True))
    else:
        parts.append("<p>Every setting is the default.</p>")
    for again in record.config.get("resumed", ()):
        line = f"Gone on with from step {again['step']}, on {again['environment']['device']}."
        parts.append(f"<p>{text(line)}</p>")
    return "\n".join(parts)


def to_repeat(record: RunRecord) -> str:
    """HTML: what to type."""
    commit = record.config["environment"]["git_revision"]
    where = f"In a checkout of the program{f' at commit {commit}' if commit else ''}:"
    return (
        f"<p>{text(where)}</p>"
        f'<pre tabindex="0"><code>{text(command(record.config))}</code></pre>'
        "<p>Files and folders are named by their last part. The run's own config.json has the "
        "whole of them:</p>"
        '<pre tabindex="0"><code>python main.py --config config.json</code></pre>'
    )
