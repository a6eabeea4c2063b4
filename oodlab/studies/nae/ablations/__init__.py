"""The study nae/ablations: its setting."""
