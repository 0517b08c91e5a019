"""What every process of a cluster shares: the nouns, settings, telemetry, and the DICOM upper layer."""
