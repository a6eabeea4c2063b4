"""The study nae/holdout_digits: its setting."""
