"""What the commands do: one module for each command, free of its command line."""
