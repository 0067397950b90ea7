"""Where in an image a model finds what raises its logit: Grad-CAM (Selvaraju et al. 2017, equations 1 and 2).

    alpha_k = mean over places of d logit / d A_k        map = relu(sum_k alpha_k A_k)

A is by default the last feature map, that which is pooled: the output of ConvNeXt's last stage, of EfficientNet's head
convolution, of Swin's final norm. Where what follows is linear (EfficientNet, Swin) the map before relu then sums up to
the image's part of the logit: nothing is left unexplained (Zhou et al. 2016). The arithmetic is captum's
``LayerGradCam``.

That map is coarse: one cell is a 32nd of 224 pixels, 6.9 mm of a 48 mm window, however smooth it looks enlarged. A
finer layer may be asked for. No map of either kind is to be believed for its looks: ``saliency_checks`` and
``benchmarks/explanations.py`` say what it is worth, which for the shipped backbone is little.
"""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from sarco_models.architectures import STRIDE
from sarco_models.config import IMAGE
from sarco_models.errors import ConfigError
from sarco_models.fusion import FusionNet, Model
from sarco_models.preprocess import Pixels
from sarco_models.saliency_checks import Maps, enlarged
from sarco_models.scores import Scores

IMAGES_AT_ONCE = 32


class ImagePath:
    """A model's way from pixels through a feature map to a logit, whichever part of it was trained.

    The logit is that of the image alone: every other modality is absent. Late fusion adds, so that another person's
    tables would shift all logits of an image alike and change no map.
    """

    def __init__(self, model: Model, size: int, stride: int = STRIDE) -> None:
        """Cut the model's image part behind a feature map.

        Args:
            model: with an image part; it is set to evaluation.
            size: pixels along the image's side.
            stride: pixels of the image to one cell of the map: 32 is the last map of all, 16 and 8 are finer ones.

        Raises:
            ConfigError: the model reads no image, or has no map of this stride.
        """
        if model.frozen is None:
            raise ConfigError("the study reads no image: there is nothing to show a map of")
        branch: Any = model.fusion.eval().branches[IMAGE]
        layers: list[nn.Module] = [*model.frozen.eval().children(), *branch.children()]
        self._device = model.device
        shapes = _shapes(layers, torch.zeros(1, 1, size, size, device=model.device))
        # Rows are the second number, whether channels come first or last. The first layer is the normalisation.
        maps = [k for k, shape in enumerate(shapes) if k and len(shape) == 4]
        places = [k for k in maps if shapes[k][2] in (size // stride, -(-size // stride))]
        if not places:
            raise ConfigError(f"no layer of this network has one cell for {stride} pixels of {size}: try 32, 16 or 8")
        cut = places[-1]
        self._before = nn.Sequential(*layers[: cut + 1])
        # As many channels as features are pooled: only the last map tells its channels from its rows for sure.
        self._channels_last = shapes[maps[-1]][1] != model.fusion.absent[IMAGE].numel()
        self._after = _AfterGrid(layers[cut + 1 :], model.fusion, channels_last=self._channels_last)

    def logits(self, pixels: Pixels) -> Scores:
        """(images, size, size) grey values -> (images,) logit of each image alone."""
        with torch.no_grad():
            found = [self._after(grid) for grid in self._grids(pixels)]
        return torch.cat(found).cpu().double().numpy() if found else np.zeros(0)

    def maps(self, pixels: Pixels, *, positive: bool = True) -> Maps:
        """Grad-CAM of each image on the model's own grid.

        Args:
            pixels: (images, size, size) grey values.
            positive: what speaks for the disease; False: against it.
        """
        cam = LayerGradCam(self._after if positive else lambda grid: -self._after(grid), self._after.grid)
        found = [
            cam.attribute(grid.requires_grad_(), relu_attributions=True).detach()[:, 0] for grid in self._grids(pixels)
        ]
        return torch.cat(found).cpu().numpy() if found else np.zeros((0, 1, 1), dtype=np.float32)

    def _grids(self, pixels: Pixels) -> Iterator[Tensor]:
        """The feature map of each image, (images, channels, rows, columns), some images at a time."""
        for start in range(0, len(pixels), IMAGES_AT_ONCE):
            images = torch.from_numpy(pixels[start : start + IMAGES_AT_ONCE, None]).to(self._device).float() / 255
            with torch.no_grad():
                grid = self._before(images)
            yield grid.permute(0, 3, 1, 2) if self._channels_last else grid


def _shapes(layers: list[nn.Module], x: Tensor) -> list[torch.Size]:
    """Of the output of each layer for one image."""
    shapes = []
    with torch.no_grad():
        for layer in layers:
            x = layer(x)
            shapes.append(x.shape)
    return shapes


class _AfterGrid(nn.Module):
    """(images, channels, rows, columns) -> (images,) logits."""

    def __init__(self, layers: list[nn.Module], net: FusionNet, *, channels_last: bool) -> None:
        super().__init__()
        self.grid = nn.Identity()  # captum's layer
        self.rest = nn.Sequential(*layers)
        self.net = net
        self.channels_last = channels_last

    def forward(self, grid: Tensor) -> Tensor:
        grid = self.grid(grid)
        image = self.rest(grid.permute(0, 2, 3, 1) if self.channels_last else grid)
        features = [
            image if name == IMAGE else self.net.absent[name].expand(len(image), -1) for name in self.net.branches
        ]
        logits: Tensor = self.net.output(torch.cat(features, dim=1))
        return logits[:, 0]


def grad_cam(model: Model, pixels: Pixels, stride: int = STRIDE, *, positive: bool = True) -> Maps:
    """Grad-CAM of each image, enlarged to its size; see :class:`ImagePath`.

    Args:
        model: with an image part, however much of it was trained.
        pixels: (images, size, size) grey values, as the cohort keeps them.
        stride: pixels to one cell; see :class:`ImagePath`.
        positive: what speaks for the disease; False: against it.

    Returns:
        (images, size, size); all zero where nothing in an image speaks for it.
    """
    size = pixels.shape[1]
    return enlarged(ImagePath(model, size, stride).maps(pixels, positive=positive), size)


def forgetting(model: Model, generator: torch.Generator) -> Iterator[tuple[int, Model]]:
    """The model with what it has learned destroyed layer by layer, from the output backwards (Adebayo et al. 2018).

    The weights that come into a unit are put in random order, those of each unit in its own. Biases and norms stay, so
    that signals keep their size, with fixed batch statistics too: what is left is a network of the same kind that was
    taught nothing. An explanation that does not change with it explains the image, not the model.

    Args:
        model: is left as it is.
        generator: of the orders.

    Yields:
        number of layers destroyed so far, and the model; the same object each time, so use it before going on.
    """
    model = copy.deepcopy(model)
    branch: Any = model.fusion.branches[IMAGE]
    frozen = [] if model.frozen is None else [*model.frozen.children()]
    layers = (
        [p for p in layer.parameters() if p.dim() > 1] for layer in (*frozen, *branch.children(), model.fusion.output)
    )
    weights = [matrices for matrices in layers if matrices]
    for destroyed, matrices in enumerate(reversed(weights), start=1):
        with torch.no_grad():
            for matrix in matrices:
                units = matrix.flatten(1)
                order = torch.rand(units.shape, generator=generator).argsort(dim=1).to(units.device)
                matrix.copy_(units.gather(1, order).view(matrix.shape))
        yield destroyed, model
