"""The study nae/samples: its setting."""
