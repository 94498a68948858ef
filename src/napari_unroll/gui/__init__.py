"""The only room with Qt and napari: docks, layers, the worker thread."""
