"""The papers' studies: the path of a notebook is the path of its room."""
