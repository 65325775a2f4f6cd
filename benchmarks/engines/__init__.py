"""bwn beside other engines: what they are given, how they are timed, what is recorded."""
