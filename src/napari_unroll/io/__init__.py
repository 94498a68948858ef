"""Files to scans and results to files: one file per format, a registry, writers with provenance."""
