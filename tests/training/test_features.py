from random import Random

import torch
from transformers import WhisperFeatureExtractor

from models.training.corpus.synthesis import speak
from models.training.features import emphasise, log_mel
from models.training.scoring import normalise, word_error_rate


def test_the_features_are_whispers() -> None:
    samples = torch.zeros(2, 480_000)
    speech = torch.from_numpy(speak("Good morning.", "en-us").samples)
    samples[0, : len(speech)] = speech
    samples[1] = 0.1 * torch.randn(480_000, generator=torch.Generator().manual_seed(0))
    extractor = WhisperFeatureExtractor(feature_size=80)
    expected = extractor(list(samples.numpy()), sampling_rate=16_000, return_tensors="pt").input_features
    assert torch.allclose(log_mel(samples), expected, atol=1e-4)


def test_emphasis_changes_rows_on_their_own_and_is_drawn_again_the_same() -> None:
    mel = torch.rand(8, 80, 300, generator=torch.Generator().manual_seed(0))
    changed, again = mel.clone(), mel.clone()
    emphasise(Random(0), changed)
    emphasise(Random(0), again)
    assert torch.equal(changed, again)
    rows = [bool((changed[row] != mel[row]).any()) for row in range(8)]
    assert any(rows)
    assert not all(rows)


def test_word_errors_ignore_case_and_punctuation() -> None:
    assert normalise("Où est l'église ?") == "où est l'église"
    assert word_error_rate(["The dog is red."], ["the dog is red"]) == 0
    assert word_error_rate(["one two", "three four"], ["one", ""]) == 0.75
