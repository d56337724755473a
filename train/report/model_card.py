"""``model_card.md``: a run's facts as the Hugging Face Hub reads and shows them.

The metadata is that of https://github.com/huggingface/hub-docs/blob/main/modelcard.md. The licence,
and the Hub's own names of the data set and the network that was trained on, cannot be known here:
whoever publishes the model adds them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from common.wording import count, percent
from train.report import choice, memory
from train.report.asked import began_with
from train.report.mistakes import confused_pairs, confusion
from train.report.record import RunRecord
from train.report.settings import command, given_settings, typed

_PAPER = "https://arxiv.org/abs/2510.03101"


def model_card(record: RunRecord) -> str:
    """Markdown with its YAML front matter."""
    front = "\n".join(_yaml(_metadata(record)))
    parts = [
        f"---\n{front}\n---",
        f"# {_plain(record.title)}",
        _description(record),
        "## Training data\n\n" + _data(record),
        "## Training\n\n" + _training(record),
        "## Evaluation\n\n" + _evaluation(record),
        "## Memory\n\n" + _memory(record),
        "## To use it\n\n" + _use(record),
        "## Limits\n\n" + _limits(record),
        "## To repeat it\n\n" + f"```sh\n{command(record.config)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(record: RunRecord) -> dict[str, Any]:
    """Only what is known; without an evaluation, no ``model-index``."""
    found: dict[str, Any] = {
        "library_name": "tf-keras",
        "pipeline_tag": "image-classification",
        "tags": ["adabet", "image-classification", record.result["train_type"]],
    }
    accuracy = record.result["last_test_accuracy"]
    if accuracy is None:
        return found
    kind = record.config["dataset_name"]
    result = {
        "task": {"type": "image-classification", "name": "Image Classification"},
        "dataset": {
            "type": "imagefolder" if kind == "folder" else kind,
            "name": record.dataset,
            "split": record.config["test_split"],
        },
        "metrics": [{"type": "accuracy", "value": accuracy, "name": "Accuracy"}],
    }
    model = {"name": record.name, "results": [result]}
    return {**found, "metrics": ["accuracy"], "model-index": [model]}


def _yaml(value: Any, indent: str = "") -> list[str]:
    """Lines of a dictionary of strings, numbers, lists and dictionaries, none of them empty.

    Strings and numbers are written as JSON, which is YAML, too.
    """
    lines = []
    for key, one in value.items():
        if isinstance(one, dict):
            lines += [f"{indent}{key}:", *_yaml(one, indent + "  ")]
        elif isinstance(one, list):
            lines.append(f"{indent}{key}:")
            for item in one:
                if isinstance(item, dict):
                    first, *others = _yaml(item, indent + "  ")
                    lines += [f"{indent}- {first.lstrip()}", *others]
                else:
                    lines.append(f"{indent}- {json.dumps(item)}")
        else:
            lines.append(f"{indent}{key}: {json.dumps(one)}")
    return lines


def _description(record: RunRecord) -> str:
    result = record.result
    state = "" if record.completed else " The run did not come to its end."
    return (
        f"{record.model} ({result['total_parameters']:,} parameters, begun with the weights "
        f"{_plain(began_with(record))}), "
        f"of which {percent(result['trained_share'])} was retrained on {_plain(record.dataset)} "
        "with the reference implementation of AdaBet, which chooses the layers to retrain from "
        f"their activations ([paper]({_PAPER})).{state}"
    )


def _data(record: RunRecord) -> str:
    data, config = record.config["inputs"]["data"], record.config
    return (
        f"{_plain(record.dataset)}: {data['train_images']:,} images (split "
        f"{_plain(config['train_split'])}) of {data['classes']} classes for training, "
        f"{data['test_images']:,} (split {_plain(config['test_split'])}) for evaluation, resized "
        f"to {config['input_size']} pixels."
    )


def _training(record: RunRecord) -> str:
    result, config, where = record.result, record.config, record.config["environment"]
    lines = [choice.how(record.selection)] if record.selection else []
    if record.trained:
        lines.append(
            f"{count(result['epochs'], 'epoch')} ({count(result['steps'], 'step')}) of SGD with "
            f"momentum and decoupled weight decay, batches of {config['batch_size']}, learning "
            f"rate {config['learning_rate']:g} falling to 0 on a cosine."
        )
        if config.get("head_epochs"):
            lines.append(
                f"In the first {count(config['head_epochs'], 'epoch')} the head alone was trained, "
                f"from a learning rate of {config['head_learning_rate']:g} on."
            )
    else:
        lines.append("Nothing was trained.")
    lines.append(
        f"Seed {config['seed']}; {where['device']}; TensorFlow "
        f"{where['packages'].get('tensorflow', 'of an unknown version')}."
    )
    given = ", ".join(map(_code, typed(given_settings(config))))
    if given:
        lines.append(f"Settings beside the defaults: {given}.")
    return " ".join(lines)


def _evaluation(record: RunRecord) -> str:
    result = record.result
    if result["last_test_accuracy"] is None:
        return "Nothing was evaluated."
    text = (
        f"| accuracy on the test images | |\n|---|---:|\n"
        f"| last epoch | {percent(result['last_test_accuracy'])} |\n"
        f"| best epoch ({result['best_epoch']}) | {percent(result['best_test_accuracy'])} |"
    )
    found = result.get("validation")
    if found:
        text += (
            f"\n| best epoch by the validation images ({found['best_epoch']}) | "
            f"{percent(found['test_accuracy'])} |"
        )
    if record.predictions is None:
        return text
    names = record.predictions["classes"]
    pairs = confused_pairs(confusion(record.predictions), 5)
    listed = "; ".join(
        f"{_plain(names[one.true])} taken for {_plain(names[one.predicted])} ({one.images})"
        for one in pairs
    )
    return f"{text}\n\nMost confused: {listed or 'none'}."


def _memory(record: RunRecord) -> str:
    rows = [
        f"| {bar.group} | {memory.ACCOUNTS[bar.account]} | {bar.megabytes:,.2f} |"
        for bar in memory.bars_of(record)
    ]
    if not rows:
        return "Nothing was measured or estimated."
    table = "\n".join(["| phase | account | peak, MB |", "|---|---|---:|", *rows])
    return f"{table}\n\n{memory.EXPLAINED}"


def _use(record: RunRecord) -> str:
    kept = record.config["save_weights"]
    if kept == "none" or not record.trained:
        return "Its weights were not kept; `--save_weights best` keeps them."
    epoch = f"the {kept} epoch"
    if kept == "best" and record.config.get("validation_split") is not None:
        epoch = "the epoch that was best on the validation images"
    line = f"`weights.h5` has the weights after {epoch}, in Keras' format"
    if record.config["train_type"] == "prune_training" and record.config["prune"] != "l1":
        return f"{line}. Channels were cut out of the network: they fit no other any more."
    return f"{line}; `--weights weights.h5` of the command below loads them, the head included."


def _limits(record: RunRecord) -> str:
    lines = [
        "The network knows the classes of its training data alone, and gives one of them to any "
        "image."
    ]
    if record.result["last_test_accuracy"] is not None:
        lines.append(
            "The accuracy is of one run, with one seed. That of the best epoch flatters: the epoch "
            "was chosen by the same test images."
        )
    rows = record.selection["layers"] if record.selection else []
    if record.trained and rows and not rows[-1]["selected"]:
        lines.append("Its classifier head was never trained: it is random.")
    lines.append(
        "The licences of the data and of the weights that it began with hold for it, too: whoever "
        "publishes it says which (`license`, in the metadata)."
    )
    return "\n".join(f"- {line}" for line in lines)


def _code(text: str) -> str:
    marks = "``" if "`" in text else "`"
    return f"{marks}{text}{marks}"


def _plain(text: str) -> str:
    """``text`` without anything that Markdown would take for more than letters."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)
