"""One session per window; scans travel in layers; names stay unique."""

from napari_unroll.gui.images import scan_layers
from napari_unroll.gui.layers import SCAN
from napari_unroll.gui.placement import ROLE
from napari_unroll.gui.session import session_of


def test_one_session_per_viewer(model):
    from napari.components import ViewerModel

    assert session_of(model) is session_of(model)
    assert session_of(ViewerModel()) is not session_of(model)


def test_a_layer_that_carries_a_scan_makes_it_the_present_one(model, cone_scan):
    session = session_of(model)
    heard = []
    session.scan_changed.connect(heard.append)
    for layer in scan_layers(cone_scan):
        layer.metadata.update({ROLE: "measurements", SCAN: cone_scan})
        model.add_layer(layer)
    assert session.scan is cone_scan
    assert heard == [cone_scan]


def test_layers_that_were_there_before_the_dock_are_found(model, cone_scan):
    (layer,) = scan_layers(cone_scan)
    layer.metadata.update({ROLE: "measurements", SCAN: cone_scan})
    model.add_layer(layer)
    assert session_of(model).scan is cone_scan


def test_a_new_scan_forgets_the_normal_operator(model, cone_scan, mri_scan):
    session = session_of(model)
    session.set_scan(cone_scan)
    session.set_factors("factors")
    session.set_scan(mri_scan)
    assert session.factors is None
    assert session.physics is None


def test_names_are_numbered(model, cone_scan):
    session = session_of(model)
    session.set_scan(cone_scan)
    taken = model.layers[0].name
    assert session.free_name("other") == "other"
    assert session.free_name(taken) == f"{taken} (2)"


def test_a_closed_dock_hears_nothing(model, cone_scan, qtbot):
    from napari_unroll.gui.scan_dock import ScanDock

    dock = ScanDock(model)
    session = session_of(model)
    with qtbot.waitSignal(dock.destroyed):
        dock.deleteLater()
    session.set_scan(cone_scan)
    assert len(model.layers) == 2


def test_a_closed_window_hears_nothing(cone_scan, qtbot):
    from napari.components import ViewerModel

    model = ViewerModel()
    session = session_of(model)
    with qtbot.waitSignal(session.destroyed):
        session.deleteLater()
    model.add_image(cone_scan.truth)
    assert len(model.layers) == 1
