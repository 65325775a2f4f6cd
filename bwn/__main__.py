"""`python -m bwn`: the same as the command `bwn`."""

from bwn.cli.main import main

if __name__ == "__main__":
    main()
