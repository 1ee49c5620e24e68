"""Other microphones and telephones: every recording that a network learns from sounds as if made with another one.

It is done to the log-mel spectrogram, where a frequency response is a sum and costs nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deployments.diarization.small_models import HIGHEST_HZ, LOWEST_HZ, LogMel

KNOTS = 8
TELEPHONE_HZ = ((100.0, 350.0), (3_200.0, 4_000.0))
REJECTION = (2.0, 8.0)  # how much weaker the rest is then, in nepers of power


@dataclass(frozen=True, slots=True)
class Channels:
    """How much they differ.

    Attributes:
        p_response: that a row has a frequency response of its own.
        response: of that at its knots, plus or minus, in nepers of amplitude (8.7 dB).
        p_telephone: that it comes through a telephone.
    """

    p_response: float
    response: float
    p_telephone: float


def vary_channel(features: LogMel, channels: Callable[[], Channels], seed: int) -> None:
    """Change the features of a network from now on while it trains, each row of a batch its own way.

    channels: asked for each batch.
    """
    features.register_forward_hook(_Channel(channels, seed))


class _Channel:
    def __init__(self, channels: Callable[[], Channels], seed: int) -> None:
        self._channels = channels
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, features: nn.Module, _: tuple[Tensor], mel: Tensor) -> Tensor:
        if not features.training:
            return mel
        channels = self._channels()
        gain = self._response(channels, len(mel), mel.shape[1]) - self._telephone(channels, len(mel), mel.shape[1])
        return mel + (gain - gain.mean(dim=1, keepdim=True))[:, :, None].to(mel.device)

    def _response(self, channels: Channels, num_rows: int, num_mels: int) -> Tensor:
        """A smooth one, (rows, mels)."""
        knots = 2 * channels.response * self._uniform(num_rows, 1, KNOTS, low=-1.0)
        curve = F.interpolate(knots, num_mels, mode="linear", align_corners=True)[:, 0]
        return curve * (self._uniform(num_rows, 1) < channels.p_response)

    def _telephone(self, channels: Channels, num_rows: int, num_mels: int) -> Tensor:
        """What it takes away outside its band, (rows, mels)."""
        lowest, highest = (_mel(torch.tensor(hertz)) for hertz in (LOWEST_HZ, HIGHEST_HZ))
        centres = torch.linspace(float(lowest), float(highest), num_mels + 2)[1:-1]
        low, high = (_mel(self._uniform(num_rows, 1, low=band[0], high=band[1])) for band in TELEPHONE_HZ)
        outside = (centres < low) | (centres > high)
        rejection = self._uniform(num_rows, 1, low=REJECTION[0], high=REJECTION[1])
        return outside * rejection * (self._uniform(num_rows, 1) < channels.p_telephone)

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self._generator)


def _mel(hertz: Tensor) -> Tensor:
    """As `torchaudio.functional.melscale_fbanks` spaces its filters ("htk")."""
    return 2595 * torch.log10(1 + hertz / 700)
