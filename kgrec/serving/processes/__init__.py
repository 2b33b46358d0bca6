"""The processes of a server: how they start, listen, load runs anew, and stop."""
