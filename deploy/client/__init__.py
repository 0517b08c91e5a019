"""What a modality or workstation does: the SCU behind `atria send`, `find` and `get`."""
