"""What was measured: geometries, scans, preprocessing and generated phantoms. Values only."""
