"""What a run does, from the data set to the saved results."""
