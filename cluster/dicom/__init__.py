"""The DICOM upper layer and DIMSE messages, both roles; knows nobody else of the project."""
