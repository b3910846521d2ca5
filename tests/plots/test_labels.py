from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from keras_quant.plots.labels import label_points

points = st.lists(
    st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)), min_size=1, max_size=8, unique=True
)


@given(points)
@settings(max_examples=15, deadline=None)
def test_no_label_lies_on_another_or_leaves_the_picture(points: list[tuple[float, float]]) -> None:
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1))
    written = label_points(axes, points, [f"w{place}" for place in range(len(points))])
    boxes = [label.get_window_extent() for label in written]
    assert boxes
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:place])
        inside = axes.get_window_extent()
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0


def test_a_lone_point_is_labelled_right_above_it() -> None:
    axes = Figure().add_subplot(xlim=(0, 1), ylim=(0, 1))
    (label,) = label_points(axes, [(0.5, 0.5)], ["name"])
    assert label.xyann == (0, 6) and label.arrow_patch is None


def test_what_has_no_place_is_left_out() -> None:
    axes = Figure(figsize=(1, 1)).add_subplot(xlim=(0, 1), ylim=(0, 1))
    assert label_points(axes, [(0.5, 0.5)], ["a name that is far too long for this"]) == []
