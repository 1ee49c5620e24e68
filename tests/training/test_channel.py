import torch

from deployments.diarization.small_models import LogMel
from models.training.diarization.channel import Channels, vary_channel

NONE = Channels(p_response=0.0, response=0.8, p_telephone=0.0)
ALWAYS = Channels(p_response=1.0, response=0.8, p_telephone=0.0)
NOISE = torch.randn(3, 1, 16_000, generator=torch.Generator().manual_seed(0)) / 10


def test_channels_change_from_one_batch_to_the_next_and_only_in_training() -> None:
    plain = LogMel(64, "power")(NOISE)
    features = LogMel(64, "power").train()
    upcoming = [NONE, ALWAYS]
    vary_channel(features, lambda: upcoming.pop(0), seed=0)
    assert torch.equal(features(NOISE), plain)
    assert not torch.allclose(features(NOISE), plain, atol=0.1)
    assert torch.equal(features.eval()(NOISE), plain)


def test_every_row_has_a_response_of_its_own_for_all_its_frames() -> None:
    plain = LogMel(64, "power")(NOISE)
    features = LogMel(64, "power").train()
    vary_channel(features, lambda: ALWAYS, seed=0)
    gain = features(NOISE) - plain
    assert torch.allclose(gain, gain[:, :, :1].expand_as(gain), atol=1e-4)
    assert torch.allclose(gain.mean(dim=1), torch.zeros(()), atol=1e-4)
    assert not torch.allclose(gain[0], gain[1], atol=0.1)
