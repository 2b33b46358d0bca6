"""Use of a finished run: recommendations, scores and reasons, with the user's own ids."""
