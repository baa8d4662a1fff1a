"""Figures are inline SVG in the page's own colours."""

import re

from engine.pages.figures import ACCENT, draw, milliseconds_axis


def test_a_figure_is_one_scalable_svg_with_a_label_in_the_page_s_colours() -> None:
    svg = draw("line", "A line", lambda axes: axes.plot([1, 2], [3, 4], color=ACCENT) and None)
    assert svg.startswith("<svg")
    assert 'aria-label="A line"' in svg
    assert "var(--accent)" in svg
    assert "var(--font)" in svg
    assert "DejaVu" not in svg
    head = svg[: svg.index(">")]
    assert "viewBox" in head
    assert "height=" not in head


def test_a_wide_figure_is_drawn_again_for_narrow_windows_in_words_of_the_usual_size() -> None:
    figure = draw("wide", "A wide line", lambda axes: axes.plot([1, 2]) and None, width=10.4, height=2.0)
    widths = [float(width) for width in re.findall(r'viewBox="0 0 ([\d.]+) ', figure)]
    assert widths == [748.8, 374.4]
    assert re.findall('<div class="(.*?)">', figure) == ["broad", "narrow"]
    names = re.findall(r'id="(.*?)"', figure)
    assert len(names) == len(set(names))


def test_a_figure_is_the_same_bytes_each_time() -> None:
    def plot(axes) -> None:
        axes.plot([1, 2], [3, 4])

    assert draw("line", "A line", plot) == draw("line", "A line", plot)


def test_latencies_are_labelled_in_milliseconds() -> None:
    def plot(axes) -> None:
        axes.plot([0.001, 0.1], [0, 1])
        milliseconds_axis(axes, [0.001, 0.1])

    assert ">100</text>" in draw("latency", "Latency", plot)
