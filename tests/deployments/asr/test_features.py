import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from deployments.asr.features import LogMel
from pipelines.audio_types import SAMPLE_RATE_HZ, Samples
from tests.support.whisper_driving import Speech, joined

CPU = torch.device("cpu")


def of_transformers(extractor: WhisperFeatureExtractor, samples: Samples) -> torch.Tensor:
    features: torch.Tensor = extractor(samples, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features
    return features


@pytest.mark.parametrize("num_mels", [80, 128])
def test_to_the_last_bit_those_of_transformers(num_mels: int, speech: Speech) -> None:
    extractor = WhisperFeatureExtractor(feature_size=num_mels)
    ours = LogMel(extractor, CPU)
    too_long = np.resize(speech["en-01"], 31 * SAMPLE_RATE_HZ)
    for samples in (speech["en-00"], joined(speech, "de-00", "de-01"), too_long, np.zeros(800, np.float32)):
        assert torch.equal(ours([samples]), of_transformers(extractor, samples))


def test_several_windows_are_each_as_if_alone(speech: Speech) -> None:
    ours = LogMel(WhisperFeatureExtractor(), CPU)
    windows = [speech["en-00"], np.zeros(10, np.float32), 0.01 * speech["en-01"]]
    alone = torch.cat([ours([window]) for window in windows])
    assert torch.allclose(ours(windows), alone, atol=1e-5)
