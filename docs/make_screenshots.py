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


def scan_pictures(docks, out: Path, size: int) -> None:
    """The Scan dock with the cone-beam sample."""
    from napari_unroll.pipeline import sources

    docks.scan.session.set_scan(sources.sample("cone-beam", {"n": size}))
    docks.front(docks.scan)
    docks.scan.check_pair()
    finish(docks)
    picture(docks, out / "scan.png")


def normal_pictures(docks, out: Path) -> None:
    """The Normal operator dock: spectrum, and both operators side by side."""
    docks.front(docks.normal)
    docks.normal.fit()
    finish(docks)
    docks.normal.show_spectrum()
    picture(docks, out / "normal_spectrum.png")
    docks.normal.probe.setCurrentText("Phantom")
    docks.normal.compare()
    finish(docks)
    docks.normal.check_patch()
    finish(docks)
    picture(docks, out / "normal_compare.png")


def reconstruct_pictures(docks, out: Path) -> None:
    """The Reconstruct dock while patches stream, and with the result in 2-D and 3-D."""
    from napari_unroll.gui.demo import wait_for

    docks.front(docks.reconstruct)
    docks.reconstruct.choose("fdk")
    docks.reconstruct.run()
    finish(docks)
    docks.reconstruct.choose("auto")
    docks.reconstruct.settings.fields["patch_size"].set(48)
    docks.reconstruct.arrived.setChecked(True)
    docks.reconstruct.run()
    run, view = docks.scan.session.runner.run, docks.reconstruct.view
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


def compare_pictures(docks, out: Path) -> None:
    """The Compare dock with FDK and the last result against the truth."""
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


def main() -> None:
    """Make every picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--width", type=int, default=1600)
    parser.add_argument("--height", type=int, default=1000)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as cache, virtual_screen():
        os.environ["NAPARI_UNROLL_CACHE"] = cache  # a fit from the cache draws no curve
        if sys.platform.startswith("linux"):
            os.environ["QT_QPA_PLATFORM"] = "xcb"
        from napari_unroll.gui.demo import open_window

        docks = open_window(args.width, args.height)
        scan_pictures(docks, args.out, args.size)
        normal_pictures(docks, args.out)
        reconstruct_pictures(docks, args.out)
        compare_pictures(docks, args.out)
        mri_pictures(docks, args.out)
        docks.viewer.close()


if __name__ == "__main__":
    main()
