"""Figures: one function per kind, tables, and save_figure, through which every figure leaves."""

from oodlab.plotting.aurocs import auroc_panels
from oodlab.plotting.base import COLOURS, DENSITY_MAP, STYLE, figure, to_png
from oodlab.plotting.chains import ChainSnapshot, energies_along_chains, live_chains
from oodlab.plotting.courses import courses
from oodlab.plotting.histograms import histograms
from oodlab.plotting.images import beside_reconstructions, image_blocks, image_rows, picture_png
from oodlab.plotting.live import ScoreSnapshot, live_scores
from oodlab.plotting.normalising import NormalisingCourse, NormalisingSnapshot, live_normalising, normalising_courses
from oodlab.plotting.pages import Gallery, Table, gallery
from oodlab.plotting.plane import density_scale, draw_density, live_density
from oodlab.plotting.saving import Saved, Studied, save_figure

__all__ = [
    "COLOURS",
    "DENSITY_MAP",
    "STYLE",
    "ChainSnapshot",
    "Gallery",
    "NormalisingCourse",
    "NormalisingSnapshot",
    "Saved",
    "ScoreSnapshot",
    "Studied",
    "Table",
    "auroc_panels",
    "beside_reconstructions",
    "courses",
    "density_scale",
    "draw_density",
    "energies_along_chains",
    "figure",
    "gallery",
    "histograms",
    "image_blocks",
    "image_rows",
    "live_chains",
    "live_density",
    "live_normalising",
    "live_scores",
    "normalising_courses",
    "picture_png",
    "save_figure",
    "to_png",
]
