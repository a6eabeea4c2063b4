"""Figures: one function per kind, tables, and save_figure, through which every figure leaves."""

from oodlab.plotting.ablations import errors_by_line, stage_panels
from oodlab.plotting.aurocs import auroc_panels
from oodlab.plotting.base import COLOURS, DENSITY_MAP, STYLE, figure, to_png
from oodlab.plotting.clusters import Reconstructions, live_manifold, manifold_panels
from oodlab.plotting.courses import courses
from oodlab.plotting.digits import (
    NormalisingCourse,
    NormalisingSnapshot,
    beside_reconstructions,
    class_shares,
    live_normalising,
    normalising_courses,
)
from oodlab.plotting.gamma import density_along_rays, metrics_by_gamma
from oodlab.plotting.histograms import histograms
from oodlab.plotting.linear import draw_ellipse, gaussian_panels, linear_likelihoods, live_gaussian
from oodlab.plotting.live import ScoreSnapshot, live_scores
from oodlab.plotting.ood import (
    IMAGE_ORDERS,
    DetectionSnapshot,
    chosen_images,
    error_histograms,
    live_detection,
)
from oodlab.plotting.outliers import error_distributions, picture_png
from oodlab.plotting.pages import Gallery, Table, gallery
from oodlab.plotting.plane import (
    density_scale,
    draw_density,
    draw_runs,
    first_negatives,
    learned_densities,
    live_density,
    negatives_by_sampler,
)
from oodlab.plotting.sampling import ChainSnapshot, energies_along_chains, image_blocks, live_chains
from oodlab.plotting.saving import Saved, Studied, save_figure
from oodlab.plotting.smoothness import image_rows, log_density_panels

__all__ = [
    "COLOURS",
    "DENSITY_MAP",
    "IMAGE_ORDERS",
    "STYLE",
    "ChainSnapshot",
    "DetectionSnapshot",
    "Gallery",
    "NormalisingCourse",
    "NormalisingSnapshot",
    "Reconstructions",
    "Saved",
    "ScoreSnapshot",
    "Studied",
    "Table",
    "auroc_panels",
    "beside_reconstructions",
    "chosen_images",
    "class_shares",
    "courses",
    "density_along_rays",
    "density_scale",
    "draw_density",
    "draw_ellipse",
    "draw_runs",
    "energies_along_chains",
    "error_distributions",
    "error_histograms",
    "errors_by_line",
    "figure",
    "first_negatives",
    "gallery",
    "gaussian_panels",
    "histograms",
    "image_blocks",
    "image_rows",
    "learned_densities",
    "linear_likelihoods",
    "live_chains",
    "live_density",
    "live_detection",
    "live_gaussian",
    "live_manifold",
    "live_normalising",
    "live_scores",
    "log_density_panels",
    "manifold_panels",
    "metrics_by_gamma",
    "negatives_by_sampler",
    "normalising_courses",
    "picture_png",
    "save_figure",
    "stage_panels",
    "to_png",
]
