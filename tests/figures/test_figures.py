import numpy as np
import pytest
from records import make

from ddbench.errors import UsageError
from ddbench.figures import base as figures
from ddbench.figures import curves, sweeps, tsne
from ddbench.plugin.embedding import Embedding
from ddbench.results import labels


def blobs(outliers=3):
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0, 0], [9, 0, 0], [0, 9, 0]])
    points = np.concatenate([centre + rng.normal(size=(15, 3)) for centre in centres])
    clusters = np.repeat(np.arange(3), 15)
    inliers = np.ones(45, bool)
    inliers[:outliers] = False
    before = (2 - clusters, centres[::-1]) if outliers else None
    return Embedding("latents", points, inliers, np.where(inliers, clusters, -1), centres, before)


def test_positions_keep_clusters_together_and_repeat():
    content = blobs()
    points, centres = tsne.positions([content.points, content.centres], seed=0)
    again, _ = tsne.positions([content.points, content.centres], seed=0)
    assert (points == again).all()
    distances = np.linalg.norm(points[:, None] - centres[None], axis=-1)
    assert (distances.argmin(1) == np.repeat(np.arange(3), 15)).mean() > 0.9


def test_panels_show_before_and_after(tmp_path):
    drawn = tsne.draw(blobs(), "a class")
    titles = [axes.get_title() for axes in drawn.axes]
    assert titles == ["before: all 45 images", "after outlier removal: 42 images"]
    assert drawn.axes[0].get_xlim() == drawn.axes[1].get_xlim()
    assert "outliers (3)" in [text.get_text() for text in drawn.axes[0].get_legend().get_texts()]
    assert len(tsne.draw(blobs(outliers=0), "a class").axes) == 1
    for name in ("a.png", "a.svg", "a.pdf"):
        figures.save(drawn, tmp_path / "new" / name)
        assert (tmp_path / "new" / name).stat().st_size > 1000
    figures.save(tsne.draw(blobs(), "a class"), tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "new" / "a.png").read_bytes()
    with pytest.raises(UsageError, match=r"a\.gif"):
        figures.save(drawn, tmp_path / "a.gif")


def test_prototypes_before_have_the_colour_of_their_counterpart_after():
    centres = np.array([[0.0, 0], [5, 5], [9, 0]])
    assert tsne._matched(centres[[2, 0, 1]] + 0.1, centres).tolist() == [2, 0, 1]


def test_too_few_points_are_refused():
    with pytest.raises(UsageError, match="too few"):
        tsne.positions([np.zeros((3, 2))], 0)


def test_curves_are_named_by_what_differs():
    def curved(method, ipc, *found):
        record = make(method, tuple(curve[-1][1] for curve in found), ipc=ipc)
        return record.model_copy(update={"result": record.result.model_copy(update={"curves": list(map(list, found))})})

    one = curved("random", 10, [(1, 0.1), (2, 0.2), (3, 0.3)], [(1, 0.3), (3, 0.5)])
    two = curved("vlcp", 50, [(1, 0.2), (3, 0.6)])
    assert curves.mean_curve(one) == ([1, 3], [pytest.approx(20), pytest.approx(40)])
    assert curves.labels([one, two]) == ["random, IPC 10", "vlcp, IPC 50"]
    axes = curves.draw([one, two]).axes[0]
    assert len(axes.lines) == 5 and axes.get_title() == "digits"
    with pytest.raises(UsageError, match="no training curves"):
        curves.draw([make("random")])


def stopped_at(iterations, *values, name="dm", snapshots=(), **explicit):
    record = make(name, values)
    given = {"iterations": iterations, "snapshots": list(snapshots), **explicit}
    method = record.cell.method.model_copy(update={"options": given, "explicit": given})
    return record.model_copy(update={"cell": record.cell.model_copy(update={"method": method})})


def test_snapshots_and_the_run_that_kept_them_make_one_line():
    records = [
        stopped_at(300, 0.5, 0.52, snapshots=[100]),
        stopped_at(100, 0.4, 0.42),
        stopped_at(100, 0.3, 0.32, lr=2),
        stopped_at(200, 0.35, lr=2),
        make("random", (0.2, 0.22)),
    ]
    lines, levels = sweeps.against(records, "iterations")
    found = {title: [value for value, _ in points] for title, points in lines.items()}
    assert found == {"dm": [100, 300], "dm, lr 2": [100, 200]}
    assert [round(runs.mean, 2) for runs in levels.values()] == [0.21] and list(levels) == ["random"]
    panel = sweeps.draw({"iterations": lines}, levels).axes[0]
    assert panel.get_xlabel() == "iterations" and len(panel.get_legend().get_texts()) == 3
    with pytest.raises(UsageError, match="do not differ in 'lr_img'"):
        sweeps.against(records, "lr_img")
    with pytest.raises(UsageError, match="do not differ"):
        sweeps.against(records[:1], "iterations")


def test_a_snapshot_of_the_last_iteration_is_no_second_run():
    whole, last = stopped_at(300, 0.5, 0.6, snapshots=[100, 300]), stopped_at(300, 0.5, 0.6, 0.7)
    assert whole.distilled.digest == last.distilled.digest
    lines, _ = sweeps.against([whole, last, stopped_at(100, 0.4)], "iterations")
    assert [len(runs.values) for _, runs in lines["dm"]] == [1, 3]


def test_lines_of_one_name_are_told_apart_by_whatever_differs():
    def changed(record, part, **update):
        cell = record.cell
        inner = {"method": cell.method.model_copy(update=update)} if part == "method" else update
        return record.model_copy(update={"cell": cell.model_copy(update=inner)})

    plain = [stopped_at(100, 0.4), stopped_at(200, 0.5)]
    newer = [changed(record, "method", version=2) for record in plain]
    wider = [changed(record, "cell", other_options={"network": {"width": 3}}) for record in plain]
    assert list(sweeps.against([*plain, *newer], "iterations")[0]) == ["dm, version 1", "dm, version 2"]
    assert list(sweeps.against([*plain, *wider], "iterations")[0]) == ["dm", "dm, network.width 3"]


def test_names_leave_out_which_snapshots_were_kept():
    options = {"iterations": 300, "snapshots": [100], "lr_img": 2.0}
    assert labels.label("dm", options) == "dm (iterations=300, lr_img=2)"
    assert labels.label("dm", {"snapshots": [100]}) == "dm"


LONG = {f"option_{number}": "a/rather/long/value" for number in range(12)}


def with_long_names(kind):
    if kind == "t-SNE":
        return tsne.draw(blobs(outliers=0), "vlcp on npz:" + "a-data-set-" * 8 + ", IPC 10: three")
    if kind == "sweep":
        records = [stopped_at(iterations, 0.4, **options) for iterations in (1, 2) for options in ({}, LONG)]
        return sweeps.draw({"iterations": sweeps.against(records, "iterations")[0]}, width=5.2)
    records = [make("dm", explicit=options) for options in ({}, LONG)]
    curve = {"curves": [[(1, 0.2), (3, 0.6)]]}
    return curves.draw([one.model_copy(update={"result": one.result.model_copy(update=curve)}) for one in records])


@pytest.mark.parametrize("kind", ["t-SNE", "sweep", "curves"])
def test_long_names_stay_in_the_picture_and_leave_it_room(kind):
    from matplotlib.legend import Legend

    drawn = with_long_names(kind)
    drawn.draw_without_rendering()
    written = [*drawn.texts, drawn._suptitle, *drawn.findobj(Legend)]
    boxes = [part.get_window_extent() for part in written if part is not None]
    assert boxes
    for box in boxes:
        assert min(box.x0, box.y0) >= -1 and box.x1 <= drawn.bbox.x1 + 1 and box.y1 <= drawn.bbox.y1 + 1, box
    assert drawn.axes[0].get_window_extent().width > 0.7 * drawn.bbox.width
    assert drawn.axes[0].get_window_extent().height > 0.3 * drawn.bbox.height
