"""What every registry guarantees."""
