"""Run folders: their files, the identity of a run, its status and its checkpoints."""
