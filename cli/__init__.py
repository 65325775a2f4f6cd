"""The command line. Installed as `bwn.cli`; one command a file."""

if __name__ != "bwn.cli":
    raise ImportError("cli/ is installed as bwn.cli: import that name")
