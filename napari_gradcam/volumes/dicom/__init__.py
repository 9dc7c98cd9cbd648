"""DICOM files to volumes: found, read header by header, sorted into stacks, placed, and only then decoded."""
