import re
import xml.etree.ElementTree as ET

import pytest
from classifier.labels import Label

from scripts.card.parity import Answered, Difference
from scripts.card.plots import confidence_plot, difference_plot, probability_plot, speed_plot


def difference(number: int, logit: float, same: bool = True) -> Difference:
    label = Label("c", "$x_{$")  # not drawn
    return Difference(
        number=number,
        name="x",
        logit=logit,
        probability=0.1,
        expected=Answered(label, 0.5),
        actual=Answered(label, 0.6),
        same=same,
    )


PLOTS = {
    "difference": lambda: difference_plot([difference(1, 1e-5), difference(2, 0.0), difference(3, 2.0, False)], 0.1),
    "one": lambda: difference_plot([difference(1, 0.0)], 0.0),
    "probability": lambda: probability_plot([difference(1, 1e-5), difference(2, 0.1, False)]),
    "confidence": lambda: confidence_plot([0.2, 0.9, 1.0], [0.0]),
    "right": lambda: confidence_plot([0.9], []),
    "speed": lambda: speed_plot(["eager 1.0", "openvino 5.0"], [10, 5], [(9, 12), (5, 5)], own=1),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_stands_in_the_page_by_itself(name: str) -> None:
    svg = PLOTS[name]()
    root = ET.fromstring(svg)  # noqa: S314 - it was made here
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert set(root.attrib) == {"aria-hidden", "viewBox", "version"}
    assert set(re.findall(r"#0[1-5]0[1-5]0[1-5]", svg)) == set()
    assert "var(--ink)" in svg
    assert re.findall(r"<(style|metadata|script|image)", svg) == []
    assert "mathdefault" not in svg
    ids = re.findall(r' id="([^"]*)"', svg)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'(?:url\(#|href="#)([^")]*)', svg)) <= set(ids)


@pytest.mark.parametrize("name", PLOTS)
def test_the_same_drawing_gives_the_same_text(name: str) -> None:
    assert PLOTS[name]() == PLOTS[name]()


def test_text_is_text_and_ids_of_two_plots_differ() -> None:
    first, second = PLOTS["difference"](), PLOTS["probability"]()
    assert ">largest |Δlogit|<" in first
    assert ">allowed: 0.1<" in first
    assert ">another class<" in first
    assert not {*re.findall(r' id="([^"]*)"', first)} & {*re.findall(r' id="([^"]*)"', second)}
    assert ">openvino 5.0<" in PLOTS["speed"]()
