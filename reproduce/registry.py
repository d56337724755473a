"""The registry of the paper's tables and figures.

To add one: write a module in ``items/`` with ``ITEMS = (Item(...), ...)``, and add its name to
``MODULES``.
"""

from __future__ import annotations

import importlib

from common.errors import UserError
from reproduce.item import Item

# Imported only when an item is asked for.
MODULES: tuple[str, ...] = (
    "table2",
    "table3",
    "table4",
    "figure1",
    "figure2",
    "figure3",
    "figure5_d12",
    "figure6_d9",
    "by_rho",
    "d10",
    "d11",
    "e16",
    "league",
    "tuned",
)


def all_items() -> dict[str, Item]:
    """Every item by name, in the paper's order."""
    modules = [importlib.import_module(f"reproduce.items.{name}") for name in MODULES]
    items = [item for module in modules for item in module.ITEMS]
    return {item.name: item for item in sorted(items, key=_place)}


def _place(item: Item) -> tuple[int, int]:
    """Tables, figures, figures of the appendices D and E; each by number."""
    kind = item.name.rstrip("0123456789")
    kinds = ("table", "figure", "d", "e")
    number = item.name[len(kind) :]
    return (kinds.index(kind) if kind in kinds else len(kinds)), int(number or 0)


def item_named(name: str) -> Item:
    """The item called ``name``.

    Raises:
        UserError: there is none; the message lists them.
    """
    items = all_items()
    if name not in items:
        raise UserError(f"there is no {name!r}; choose list or one of {', '.join(items)}")
    return items[name]
