"""Reports on runs, models and experiments: numbers, figures, and one self-contained file."""
