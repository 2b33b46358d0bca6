"""The configuration: where it lies, checks of its keys, and what Hydra's errors mean."""
