"""The study ebm/smoothness: its setting."""
