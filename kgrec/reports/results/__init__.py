"""Tables, plots and statistical comparisons of finished runs."""
