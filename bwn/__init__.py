"""bwn: train, pack, verify and run image classifiers with one-bit weights on the CPU."""
