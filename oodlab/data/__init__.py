"""Data: `load(name, split)` returns a set's stored values; real, embedded and synthetic sets; preprocessing.

    train = data.load("fashion_mnist", "train", without=9)
    w = data.dequantize(train.x, generator)          # a flow's input
    data.load("path/of/your.npz", "test"), data.from_arrays(x, y), data.from_folder("pictures", size=32)

The files of a set are looked for in the folders that OODLAB_DATA names (the
search path), then in the cache; a set found in neither is downloaded where that
is possible. `sets` holds the table of sets, `search` the search path, `rows` the
split rule.

Imports: its own folder.
"""

from oodlab.data.augment import Augment, augmented_signed
from oodlab.data.digests import Stored
from oodlab.data.download import fetch
from oodlab.data.loading import load
from oodlab.data.own import from_arrays, from_folder
from oodlab.data.search import State, cache_folder, search_path, state
from oodlab.data.sets import SetEntry, entry, table
from oodlab.data.split import Split, SplitInfo
from oodlab.data.synthetic import (
    chimera_digits,
    constant_color,
    constant_gray,
    constant_printed,
    eight_centers,
    eight_gaussians,
    eight_gaussians_log_prob,
    exact_gaussian,
    half_digits,
    noise_normal,
    noise_normal_released,
    noise_printed,
    noise_table_released,
    noise_uniform,
    oodomain,
    smoothness_images,
    two_uniforms,
)
from oodlab.data.transforms import (
    DropConstant,
    MinMax,
    as_shape,
    bin_center,
    dequantize,
    from_pixels,
    logit_forward,
    logit_inverse,
    scale_signed,
    scale_unit,
    to_uint8,
)

__all__ = [
    "Augment",
    "DropConstant",
    "MinMax",
    "SetEntry",
    "Split",
    "SplitInfo",
    "State",
    "Stored",
    "as_shape",
    "augmented_signed",
    "bin_center",
    "cache_folder",
    "chimera_digits",
    "constant_color",
    "constant_gray",
    "constant_printed",
    "dequantize",
    "eight_centers",
    "eight_gaussians",
    "eight_gaussians_log_prob",
    "entry",
    "exact_gaussian",
    "fetch",
    "from_arrays",
    "from_folder",
    "from_pixels",
    "half_digits",
    "load",
    "logit_forward",
    "logit_inverse",
    "noise_normal",
    "noise_normal_released",
    "noise_printed",
    "noise_table_released",
    "noise_uniform",
    "oodomain",
    "scale_signed",
    "scale_unit",
    "search_path",
    "smoothness_images",
    "state",
    "table",
    "to_uint8",
    "two_uniforms",
]
