"""The network whose features the Fréchet inception distance (FID) compares.

Imports: nothing local.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 299  # pixels a side of the network's input
BATCH = 50
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the colour channels it was trained on


def inception_features(device: torch.device | str = "cpu") -> Callable[[Tensor], Tensor]:
    """Load torchvision's Inception-v3 and return its 2048 pooled features of images in [0, 1], (N, C, H, W) -> (N, 2048).

    Images are resized to 299 x 299 by bilinear interpolation, and grey images are repeated in three channels. Most
    published FIDs use other weights of the same network, those of Heusel et al. (2017), and are not comparable.

    Args:
        device: Device that the network runs on; images and features are on the CPU.

    Raises:
        FileNotFoundError: The weights are not in torch's cache, and cannot be downloaded.

    Source: Szegedy et al. (2016), arXiv:1512.00567; weights of torchvision, trained on ImageNet.
    """
    from torchvision.models import Inception_V3_Weights, inception_v3  # here: `import oodlab` stays cheap

    weights = Inception_V3_Weights.IMAGENET1K_V1
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:  # the base class of urllib's errors
        file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
        raise FileNotFoundError(
            f"inception_features expects the weights of Inception-v3 in {file}, got none: {error}; with internet access, "
            f"`curl --create-dirs -o {file} {weights.url}` gets them (104 MB), or compare pooled pixels, as profile quick does."
        ) from error
    network = inception_v3(weights=None, init_weights=False, transform_input=False)
    network.load_state_dict(state)
    network.fc = nn.Identity()
    network.eval().requires_grad_(False).to(device)
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))

    @torch.no_grad()
    def features(x: Tensor) -> Tensor:
        parts = []
        for part in x.split(BATCH):
            part = part.to(device, torch.float32)
            large = F.interpolate(part, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
            parts.append(network((large.expand(-1, 3, -1, -1) - mean) / std).cpu())
        return torch.cat(parts)

    return features
