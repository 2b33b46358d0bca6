"""The subcommands of ``kgrec``: one module a command, with its arguments and what it does."""
