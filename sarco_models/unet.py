"""Networks that say of every pixel which muscle it belongs to: a U-Net around an image network of the study's choice.

The encoder is the study's backbone (:mod:`sarco_models.backbones`: a ConvNeXt, EfficientNet or Swin, with its starting
weights, its norms and what of it trains), the decoder that of segmentation-models-pytorch (Ronneberger et al. 2015)
with group norms (Wu and He 2018). No batch norm lives in it: an image is segmented alike in any company, and every
participant's gradient is what that person's images alone give.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from sarco_models.architectures import STRIDE, architecture
from sarco_models.backbones import GROUP_CHANNELS, Backbone, build_backbone, with_norms
from sarco_models.config import ModelConfig, StudyConfig
from sarco_models.errors import ConfigError
from sarco_models.parameters import keep_at_site
from sarco_models.segmentation_net import Asked, Kept
from sarco_models.segmentation_net import SegmentationNet as SegmentationNet


def build_segmenter(study: StudyConfig, weights: str | None = None) -> SegmentationNet:
    """Make the network of a study that segments.

    Args:
        study: with a section [segmentation].
        weights: overrides the study's starting weights of the encoder; a site passes ``none``, since the coordinator
            sends them. An nnU-Net begins at random, whatever is said.

    Raises:
        ConfigError: the study diagnoses, or the network does not fit its settings.
        WeightsError: the weights are absent or do not fit.
    """
    cfg = study.segmentation
    if cfg is None:
        raise ConfigError(f"{study.name} has no section [segmentation]: its network is made by build_model")
    if cfg.network == "nnunet":
        from sarco_models.nnunet import build_nnunet  # seconds of imports, for those who need them

        return build_nnunet(cfg, study.image)
    return build_unet(study.model, study.image.size, cfg.outputs, weights, muscles=cfg.to_ask_for)


def build_unet(
    model: ModelConfig, size: int, outputs: int, weights: str | None = None, *, muscles: int = 0
) -> SegmentationNet:
    """Make a U-Net for grey images.

    The decoder climbs to half of the image's resolution; logits are linear between its pixels, for a muscle's edge is
    smooth. A ConvNeXt and a Swin begin at a quarter: there one convolution of the image is the finest map, without
    which the thinnest muscles are found worse. At every resolution the decoder is as wide as the encoder, rounded up
    to whole groups.

    Args:
        model: backbone, what trains of it (``head``: the decoder alone), its norms and starting weights.
        size: pixels along the image's side; what is no multiple of 32 is filled up with black inside the network.
        outputs: classes, the background among them.
        weights: overrides those of ``model``.
        muscles: of which the network is asked for one with each image; 0 = none.

    Raises:
        ConfigError: the backbone does not fit the other arguments.
        WeightsError: the weights are absent or do not fit.
    """
    if model.norm == "local" and architecture(model.backbone).batch_norm:
        raise ConfigError(
            'model.norm = "local": a network that segments keeps no statistics of batches: write "group" or "frozen"'
        )
    filled = -(-size // STRIDE) * STRIDE
    start = model.weights if weights is None else weights
    backbone = build_backbone(model.backbone, model.trainable, start, norm=model.norm, image_size=filled)
    maps = _maps(backbone, filled, channels_last=architecture(model.backbone).family == "swin")
    frozen = list(backbone.frozen)[: maps.end]
    trained = list(backbone.trained)[: maps.end - len(frozen)]
    encoder = _Encoder(trained, maps.among(len(frozen), maps.end))
    head = _Head(maps, outputs, muscles, (size, filled))
    for module in head.modules() if model.norm == "local" else ():
        if isinstance(module, nn.GroupNorm):
            keep_at_site(module)
    begun = nn.Sequential(_Fill(filled - size), _Encoder(frozen, maps.among(0, len(frozen))))
    return SegmentationNet(begun, _Trained(encoder, head), size)


# ---- the encoder's maps ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Maps:
    """Which layers' outputs the decoder reads, finest first; they are counted over both parts of the backbone.

    The last one is the deepest, and what the encoder ends with.
    """

    places: tuple[int, ...]
    widths: tuple[int, ...]
    channels_last: bool
    begins_at_a_quarter: bool

    @property
    def end(self) -> int:
        """The layer after the deepest map: what follows serves a diagnosis."""
        return self.places[-1] + 1

    def among(self, first: int, end: int) -> tuple[int, ...]:
        """Places among the layers from ``first`` to before ``end``, counted from ``first``; without the deepest."""
        seen = (0, *self.places[:-1]) if self.begins_at_a_quarter else self.places[:-1]
        return tuple(place - first for place in seen if first <= place < end)


_NO_MAPS = ("norm_pre", "head", "conv_head", "bn2", "global_pool", "norm")
"""Layers of a diagnosis, after timm's ``feature_info`` ends."""


def _maps(backbone: Backbone, size: int, *, channels_last: bool) -> _Maps:
    """The last layer at every resolution below the image's, as in timm's ``features_only``; seen by trying."""
    layers = [*backbone.frozen, *backbone.trained]
    end = 1 + sum(name not in _NO_MAPS for name in backbone.names)
    side = size if channels_last else 2 * STRIDE  # only windows depend on it
    x, found = torch.zeros(1, 1, side, side), {}
    modes = [layer.training for layer in layers]
    with torch.no_grad():
        for place, layer in enumerate(layers[:end]):
            x = layer.eval()(x)
            stride = side // x.shape[1 if channels_last and place else 2]
            found[stride] = (place, x.shape[3 if channels_last and place else 1])
    for layer, mode in zip(layers, modes, strict=True):
        layer.train(mode)
    found.pop(1)
    places, widths = zip(*found.values(), strict=True)
    return _Maps(places, widths, channels_last, begins_at_a_quarter=min(found) > 2)


class _Fill(nn.Module):
    """Black rows and columns at the end, up to a multiple of 32."""

    def __init__(self, missing: int) -> None:
        super().__init__()
        self.missing = missing

    def forward(self, images: Tensor) -> Tensor:
        return pad(images, (0, self.missing, 0, self.missing)) if self.missing else images


class _Encoder(nn.Module):
    """Some layers of the encoder: what the next one reads, and the maps that were made on the way, finest first."""

    def __init__(self, layers: Sequence[nn.Module], places: tuple[int, ...]) -> None:
        super().__init__()
        self.layers, self.places = nn.Sequential(*layers), places

    def forward(self, x: Tensor) -> Kept:
        maps = []
        for place, layer in enumerate(self.layers):
            x = layer(x)
            if place in self.places:
                maps.append(x)
        return x, *maps


# ---- the decoder -----------------------------------------------------------------------------------------------------


DETAIL_CHANNELS = 16
"""Of the map at half resolution that an encoder lacks which begins at a quarter; an EfficientNet has as many there."""


class _Head(nn.Module):
    """All maps to logits, finest first among the maps and the deepest last.

    Of an encoder that begins at a quarter of the image's resolution the first map is the image itself.
    """

    def __init__(self, maps: _Maps, outputs: int, muscles: int, sizes: tuple[int, int]) -> None:
        super().__init__()
        widths = (DETAIL_CHANNELS, *maps.widths) if maps.begins_at_a_quarter else maps.widths
        climbed = [-(-width // GROUP_CHANNELS) * GROUP_CHANNELS for width in widths[-2::-1]]
        self.detail = _detail() if maps.begins_at_a_quarter else None
        self.asked = Asked(muscles, widths)
        decoder = UnetDecoder((1, *widths), climbed, n_blocks=len(climbed))
        initialize_decoder(decoder)
        self.decoder = with_norms(decoder, "group")
        self.logits = SegmentationHead(climbed[-1], outputs)
        initialize_head(self.logits)
        self.channels_last, (self.size, self.filled) = maps.channels_last, sizes

    def forward(self, maps: Sequence[Tensor], asked: Tensor | None) -> Tensor:
        first, *deeper = maps
        if self.channels_last:
            deeper = [m.permute(0, 3, 1, 2) for m in deeper]
        finest = first if self.detail is None else self.detail(first)
        read = self.asked([finest, *deeper], asked)
        logits: Tensor = self.logits(self.decoder([finest, *read]))  # of the first, smp reads the size alone
        wide = interpolate(logits, size=(self.filled, self.filled), mode="bilinear", align_corners=False)
        return wide[:, :, : self.size, : self.size]


def _detail() -> nn.Module:
    """The image to a map at half its resolution."""
    convolution = nn.Conv2d(1, DETAIL_CHANNELS, 3, stride=2, padding=1, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, nonlinearity="relu")
    norm = nn.GroupNorm(DETAIL_CHANNELS // GROUP_CHANNELS, DETAIL_CHANNELS)
    return nn.Sequential(convolution, norm, nn.ReLU())


class _Trained(nn.Module):
    """What trains: the encoder's last layers, if any, and the decoder."""

    def __init__(self, encoder: _Encoder, head: _Head) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, kept: Kept, asked: Tensor | None) -> Tensor:
        """See :class:`SegmentationNet`."""
        last, *finer = kept
        deepest, *further = self.encoder(last)
        logits: Tensor = self.head([*finer, *further, deepest], asked)
        return logits
