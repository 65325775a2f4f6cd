"""`python -m bwn.cli`."""

from bwn.cli.main import main

if __name__ == "__main__":
    main()
