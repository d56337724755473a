"""A matplotlib figure as part of a page: SVG whose text is text, in the page's own colours."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from common.plots import COLOURS
from common.web_page import text
from train.report.selection_figure import FROZEN, OUTLINE, RULE, TRAINED

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_UNWANTED = (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style")  # a style would be one of the whole page
_POINTS_TO_PIXELS = 4 / 3
# What a figure's colours are called in page.css, which has other values of them in the dark.
_NAMES = {
    TRAINED: "--trained",
    FROZEN: "--frozen",
    RULE: "--rule",
    OUTLINE: "--muted",
    "#000000": "--text",
    **{colour: f"--series-{place}" for place, colour in enumerate(COLOURS) if colour != "#000000"},
}
_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "adabet"}


def as_svg(
    figure: Figure, name: str, description: str, *, fixed: bool = False, grown: float = 1.0
) -> str:
    """The figure as an ``<svg>`` element that takes no more than the page's width.

    It has no background from now on.

    Args:
        name: begins the identifiers in it: another one for each figure of a page.
        description: what it shows, for those who do not see it.
        fixed: keep its size; what holds it has to scroll.
        grown: how many times its size it may take where there is room.
    """
    for background in (figure.patch, *(axis.patch for axis in figure.axes)):
        background.set_visible(False)
    file = io.StringIO()
    with matplotlib.rc_context(_SETTINGS):
        # savefig would draw it twice.
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    for parent in root.iter():
        for child in [one for one in parent if one.tag in _UNWANTED]:
            parent.remove(child)
    _rename(root, name)
    width = float(root.attrib.pop("width").removesuffix("pt")) * _POINTS_TO_PIXELS * grown
    root.attrib.pop("height")
    root.set("role", "img")
    root.set("aria-label", description)
    root.set("style", f"{'' if fixed else 'max-'}width:{width:.0f}px")
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return _in_page_colours(ElementTree.tostring(root, encoding="unicode"))


def figure_box(svg: str, caption: str) -> str:
    """An ``<svg>`` with its caption, in a box that scrolls where it is wider than the page."""
    return (
        f'<figure><div class="scroll" role="region" tabindex="0" aria-label="{text(caption)}">'
        f"{svg}</div><figcaption>{text(caption)}</figcaption></figure>"
    )


def _rename(root: ElementTree.Element, name: str) -> None:
    """Keep those identifiers that something refers to, beginning with ``name``."""
    link = f"{{{_XLINK}}}href"
    used = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == link and value.startswith("#"):
                used.add(value[1:])
                element.set(key, f"#{name}-{value[1:]}")
            elif "url(#" in value:
                used.update(re.findall(r"url\(#([^)]+)\)", value))
                element.set(key, value.replace("url(#", f"url(#{name}-"))
    for element in root.iter():
        identifier = element.attrib.pop("id", None)
        if identifier in used:
            element.set("id", f"{name}-{identifier}")


def _in_page_colours(svg: str) -> str:
    for colour, variable in _NAMES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg
