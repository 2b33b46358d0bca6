"""From raw files to batches; knows no model."""
