"""``python -m napari_unroll.cli``."""

from napari_unroll.cli.app import main

main()
