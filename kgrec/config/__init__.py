"""The configuration: location of its files, checks of its keys, and messages for Hydra's errors."""
