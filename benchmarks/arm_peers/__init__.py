"""Executed instructions of bwn and its peers on emulated ARM cores."""
