"""The study nae/outlier_reconstruction: its setting."""
