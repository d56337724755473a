"""``--scores``: b1 of every layer on the board's own pictures, as AdaBet ranks them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from device.bundle import Bundle, pairs_of_blocks
from device.pictures import Pictures

_ROW = "{:>5}  {:<30} {:<16} {:>4}  {:>10}  {:>11}  {:>4}  {}"


def score_table(bundle: Bundle, pictures: Pictures, say: Callable[[str, bool], None]) -> list[dict]:
    """A row for each layer, in execution order, of the first pictures there are.

    ``b1``; ``score``, b1 / elements of the activation; ``rank``, 1 for the highest, of equal ones
    the earlier layer; ``ties``, see :meth:`device.bundle.Bundle.betti_numbers`.
    """
    count = min(bundle.pooled_images, len(pictures))
    calls = len(pairs_of_blocks(count, bundle.about["pair_images"] // 2))
    done = 0

    def progress() -> None:
        nonlocal done
        done += 1
        say(f"scores: {done} of {calls} pairs of blocks of {count} pictures", False)

    betti, ties = bundle.betti_numbers(bundle.distances(pictures.take, count, progress))
    layers = bundle.about["layers"]
    scores = np.array([b1 / layer["activation_size"] for b1, layer in zip(betti, layers)])
    order = np.argsort(-scores, kind="stable")
    ranks = np.empty(len(order), int)
    ranks[order] = np.arange(1, len(order) + 1)
    return [
        {
            **layer,
            "b1": int(b1),
            "ties": int(tied),
            "score": float(score),
            "rank": int(rank),
        }
        for layer, b1, tied, score, rank in zip(layers, betti, ties, scores, ranks)
    ]


def table_text(rows: list[dict]) -> str:
    """For people; a ~ marks numbers that ties may have moved."""
    titles = ("layer", "name", "type", "b1", "activation", "score", "rank", "")
    lines = [_ROW.format(*titles).rstrip()]
    for row in rows:
        lines.append(
            _ROW.format(
                row["index"],
                row["name"][:30],
                row["type"][:16],
                f"{'~' if row['ties'] else ''}{row['b1']}",
                row["activation_size"],
                f"{row['score']:.3e}",
                row["rank"],
                "trained" if row["trained"] else "",
            ).rstrip()
        )
    return "\n".join(lines)
