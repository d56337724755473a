"""Progress bars on stderr; silent where stderr is not a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from tqdm import tqdm


@contextlib.contextmanager
def step_bar(title: str, total: int, done: int = 0) -> Iterator[Callable[[float, float], None]]:
    """A bar over ``total`` steps; the yielded function takes the loss and accuracy so far."""
    with tqdm(total=total, initial=done, desc=title, unit="step", leave=False, disable=None) as bar:

        def advance(loss: float, accuracy: float) -> None:
            bar.set_postfix(loss=f"{loss:.4f}", accuracy=f"{accuracy:.2%}", refresh=False)
            bar.update()

        yield advance


@contextlib.contextmanager
def batch_bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar over ``total`` batches."""
    with tqdm(total=total, desc=title, unit="batch", leave=False, disable=None) as bar:

        def advance() -> None:
            bar.update()

        yield advance
