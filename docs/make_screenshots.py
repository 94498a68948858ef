"""Make the pictures of the documentation: the whole window with each dock in use, on the generated samples.

    python docs/make_screenshots.py [--out docs/images] [--size 96] [--width 1600] [--height 1000]

Runs under a virtual screen where there is no display.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from napari_unroll.cli.demo import virtual_screen


def picture(docks, path: Path) -> None:
    """The window as it is now."""
    from napari_unroll.gui.demo import settle

    settle(600)
    docks.viewer.screenshot(str(path), canvas_only=False, flash=False)
    print(path, flush=True)


def finish(docks) -> None:
    """Wait for the end of what runs."""
    from napari_unroll.gui.demo import wait_for

    finished = wait_for(docks.scan.session.runner.run.finished)
    print(finished.outcome, finished.advice, flush=True)


def load(docks, size: int) -> None:
    """The cone-beam sample."""
    from napari_unroll.pipeline import sources

    docks.scan.session.set_scan(sources.sample("cone-beam", {"n": size}))


def reconstruct(docks, method: str) -> None:
    """A result to look at."""
    docks.reconstruct.choose(method)
    docks.reconstruct.run()
    finish(docks)


def scan_pictures(docks, out: Path, size: int) -> None:
    """The Scan dock with the cone-beam sample."""
    load(docks, size)
    docks.front(docks.scan)
    docks.scan.check_pair()
    finish(docks)
    picture(docks, out / "scan.png")


def geometry_pictures(docks, out: Path, size: int) -> None:
    """The geometry check and the strip of slices of a scan whose axis is three pixels off, and its set-up in 3-D."""
    from dataclasses import replace

    from napari_unroll.gui.demo import settle
    from napari_unroll.pipeline import sources
    from napari_unroll.pipeline.edits import shifted

    scan = sources.sample("cone-beam", {"n": size})
    docks.scan.session.set_scan(replace(scan, geometry=shifted(scan.geometry, 3)))
    docks.front(docks.scan)
    docks.scan.check_geometry()
    finish(docks)
    docks.scan.geometry_box.view.setValue(7)
    settle()  # the pictures make the dock longer
    docks.scan.show_from(docks.scan.geometry_box)
    picture(docks, out / "geometry.png")
    docks.scan.geometry_box.sweep.expand(animate=False)
    docks.scan.try_places()
    finish(docks)
    settle()
    docks.scan.show_from(docks.scan.geometry_box.sweep)
    picture(docks, out / "sweep.png")
    docks.scan.show_from(docks.scan.facts_box)
    docks.scan.show_setup()
    docks.viewer.scene.camera.angles = (10, -25, 60)
    picture(docks, out / "setup_3d.png")
    docks.viewer.dims.ndisplay = 2
    docks.viewer.layers.clear()


def normal_pictures(docks, out: Path) -> None:
    """The Normal operator dock: spectrum, and both operators side by side."""
    docks.front(docks.normal)
    docks.normal.fit()
    finish(docks)
    docks.normal.maps.show_response()
    picture(docks, out / "normal_spectrum.png")
    docks.normal.probe.setCurrentText("Phantom")
    docks.normal.compare()
    finish(docks)
    docks.normal.check_patch()
    finish(docks)
    picture(docks, out / "normal_compare.png")


def region_pictures(docks, out: Path) -> None:
    """What the approximation does in a region, for two fits."""
    from napari_unroll.gui.demo import settle, wait_for

    docks.front(docks.normal)
    if docks.normal.fitted is None:
        docks.normal.fit()
        finish(docks)
    docks.normal.compare()
    finish(docks)
    docks.normal.form.fields["form"].value = "dc"
    docks.normal.fit()
    finish(docks)
    docks.normal.form.fields["form"].value = "auto"
    docks.normal.draw_region()
    wait_for(docks.normal.region.requested)
    finish(docks)
    settle()
    docks.normal.show_from(docks.normal.compare_box)
    picture(docks, out / "normal_region.png")
    docks.normal.rectangle.remove()
    docks.normal.side.setChecked(True)


def reconstruct_pictures(docks, out: Path) -> None:
    """The Reconstruct dock while patches stream, and with the result in 2-D and 3-D."""
    from napari_unroll.gui.demo import wait_for

    docks.front(docks.reconstruct)
    reconstruct(docks, "fdk")
    docks.reconstruct.choose("auto")
    docks.reconstruct.settings.fields["patch_size"].value = 48
    docks.reconstruct.arrived.setChecked(True)
    docks.reconstruct.run()
    run, view = docks.scan.session.runner.run, docks.reconstruct.runs.view
    while not run.over and (view.arrived is None or view.n_patches < 15):
        wait_for(run.event)
    picture(docks, out / "reconstruct_running.png")
    if not run.over:
        finish(docks)
    docks.reconstruct.arrived.setChecked(False)
    picture(docks, out / "reconstruct.png")
    docks.viewer.dims.ndisplay = 3
    view_in_3d(docks)
    picture(docks, out / "reconstruct_3d.png")
    docks.viewer.dims.ndisplay = 2


def view_in_3d(docks) -> None:
    """A slanted view with depth."""
    docks.viewer.reset_view()
    docks.viewer.scene.camera.angles = (10, -25, 60)


def train_pictures(docks, out: Path, seconds: int = 240) -> None:
    """The Train dock during a small training."""
    from napari_unroll.gui.demo import settle, wait_for

    with tempfile.TemporaryDirectory() as folder:
        train, form = docks.train, docks.train.form
        docks.front(train)
        form.plan.fields["scanner"].value = None
        form.more.fields["size"].value = 32
        form.more.fields["n_objects"].value = 2
        form.more.fields["n_held_out"].value = 1
        form.levels.value = "30"
        form.network.fields["n_iterations"].value = 2
        form.network.fields["start_iterations"].value = 5
        form.effort.fields["patch"].value = 16
        form.effort.fields["time"].value = max(1, seconds // 60)
        form.options.fields["log_every"].value = 1
        form.options.fields["validate_every"].value = 8
        form.out.value = Path(folder) / "trained"
        train.start()
        run = train.runner.run
        while not run.over and len(train.psnr.points("network")[0]) < 5:
            wait_for(run.event)
        settle()
        train.show_from(train.progress)
        picture(docks, out / "train.png")
        train.finish()
        if not run.over:
            print(wait_for(run.finished).advice, flush=True)


def compare_pictures(docks, out: Path) -> None:
    """The Compare dock with FDK and the last result against the truth."""
    if not docks.scan.session.layers.ours("result"):
        reconstruct(docks, "fdk")
        reconstruct(docks, "auto")
    docks.front(docks.compare)
    docks.compare.measure()
    finish(docks)
    docks.compare.side_by_side()
    docks.compare.draw_profile()
    picture(docks, out / "compare.png")


def mri_pictures(docks, out: Path) -> None:
    """Multi-coil MRI with its exact normal operator."""
    from napari_unroll.pipeline import sources

    docks.compare.one_view()
    docks.viewer.layers.clear()
    docks.scan.session.set_scan(sources.sample("multi-coil"))
    docks.front(docks.scan)
    picture(docks, out / "scan_mri.png")
    docks.front(docks.normal)
    docks.normal.fit()
    finish(docks)
    docks.normal.compare()
    finish(docks)
    picture(docks, out / "normal_mri.png")


PARTS = {
    "train": train_pictures,
    "geometry": geometry_pictures,
    "scan": scan_pictures,
    "normal": normal_pictures,
    "region": region_pictures,
    "reconstruct": reconstruct_pictures,
    "compare": compare_pictures,
    "mri": mri_pictures,
}
"""In this order, for the later ones show what the earlier ones made."""
OWN_SCAN = ("train", "geometry", "scan", "mri")
"""Parts that load what they show, or need nothing; the others show the sample of *scan*."""


def main() -> None:
    """Make every picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--width", type=int, default=1600)
    parser.add_argument("--height", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=PARTS, help="make only some pictures")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as cache, virtual_screen():
        os.environ["NAPARI_UNROLL_CACHE"] = cache  # a fit from the cache draws no curve
        os.environ["NAPARI_CONFIG"] = str(
            Path(cache) / "settings.yaml"
        )  # docks remember what their forms held beside it
        if sys.platform.startswith("linux"):
            os.environ["QT_QPA_PLATFORM"] = "xcb"
        from napari_unroll.gui.demo import open_window

        docks = open_window(args.width, args.height)
        sizes = {"geometry": (args.size,), "scan": (args.size,)}
        for name, make in PARTS.items():
            if name in args.only:
                if name not in OWN_SCAN and docks.scan.session.scan is None:
                    load(docks, args.size)
                make(docks, args.out, *sizes.get(name, ()))
        docks.viewer.close()


if __name__ == "__main__":
    main()
