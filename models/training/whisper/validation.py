"""A quick look at the model between two parts of a run; evaluation.py measures what the card says."""

from collections.abc import Sequence
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import WhisperForConditionalGeneration, WhisperTokenizer

from models.training.corpus.grammar import LANGUAGES
from models.training.corpus.utterances import SAMPLE_RATE, Corpus, Utterance
from models.training.features import log_mel
from models.training.precision import reduced_precision
from models.training.scoring import word_error_rate
from models.training.whisper.windows import FULL_SAMPLES

LEAD_S = 0.2
SENTENCES = 6
"""In the windows that show how well 30 s are read."""

Samples = NDArray[np.float32]


class Validation:
    """Word error rates by greedy decoding with timestamps, `count` utterances of each language, in 30 s windows."""

    def __init__(
        self, corpus: Corpus, whisper: WhisperForConditionalGeneration, tokenizer: WhisperTokenizer, count: int
    ) -> None:
        self._whisper, self._tokenizer, self._corpus = whisper, tokenizer, corpus
        random = Random(0)
        self._singles = {language: self._of(language)[:count] for language in LANGUAGES}
        self._windows = {
            language: [random.choices(self._of(language), k=SENTENCES) for _ in range(count // 4)]
            for language in LANGUAGES
            if self._of(language)
        }

    def _of(self, language: str) -> list[Utterance]:
        return [item for item in self._corpus if item.language == language and item.english is not None]

    def __call__(self) -> dict[str, float]:
        errors = {}
        for language, utterances in self._singles.items():
            if not utterances:
                continue
            groups = [[utterance] for utterance in utterances]
            errors[language] = self._error(groups, language, "transcribe")
            if language != "en":
                errors[f"{language}>en"] = self._error(groups, language, "translate")
        full = [self._error(groups, language, "transcribe") for language, groups in self._windows.items() if groups]
        return errors | ({"windows": float(np.mean(full))} if full else {})

    def _error(self, groups: Sequence[Sequence[Utterance]], language: str, task: str) -> float:
        samples = np.stack([self._lay_out(group) for group in groups])
        device = self._whisper.device
        with reduced_precision(device.type):
            written = self._whisper.generate(
                log_mel(torch.from_numpy(samples)).to(device),
                language=language,
                task=task,
                return_timestamps=True,
                # or it would seek onwards by whatever timestamps an untrained model writes, for ever
                force_unique_generate_call=True,
                max_new_tokens=20 + 20 * max(len(group) for group in groups),
            )
        texts = self._tokenizer.batch_decode(written, skip_special_tokens=True)
        truths = [" ".join(_text(utterance, task) for utterance in group) for group in groups]
        return word_error_rate(truths, texts)

    def _lay_out(self, group: Sequence[Utterance]) -> Samples:
        """The utterances in one window, 0.6 s between them, or less where there is no room for that."""
        window = np.zeros(FULL_SAMPLES, np.float32)
        spoken = [self._corpus.samples(utterance) for utterance in group]
        room = FULL_SAMPLES - sum(len(samples) for samples in spoken) - int(LEAD_S * SAMPLE_RATE)
        pause = min(int(0.6 * SAMPLE_RATE), max(0, room // len(group)))
        position = int(LEAD_S * SAMPLE_RATE)
        for samples in spoken:
            end = min(position + len(samples), FULL_SAMPLES)
            window[position:end] = samples[: max(0, end - position)]
            position = min(end + pause, FULL_SAMPLES)
        return window


def _text(utterance: Utterance, task: str) -> str:
    return (utterance.english or "") if task == "translate" else utterance.text
