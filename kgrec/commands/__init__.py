"""The subcommands of ``kgrec``: one module per command, with its arguments and its action."""
