"""What pyannote.audio does not promise to keep, each thing once, and what it breaks when it changes.

`tests/deployments/compat/test_pyannote.py` tells when one of them does.
"""

from typing import Any

from torch import Tensor

# The parts of a `SpeakerDiarization`, which all are private. When one has another name, diarization does not start, or
# fails on every window.


def put_parts(pipeline: Any, segmentation: Any, embedding: Any, audio: Any) -> None:
    """Give a pipeline its parts where `SpeakerDiarization`'s constructor is left out.

    segmentation: an `Inference`. embedding: a `BaseInference`, by which `to` finds it. audio: an `Audio`.

    With these `apply` asks `get_segmentations`, `speaker_count`, `get_embeddings`, `clustering` and `reconstruct`,
    which a pipeline may have of its own.
    """
    pipeline._segmentation = segmentation
    pipeline._embedding = embedding
    pipeline._audio = audio
    pipeline._expects_num_speakers = False


def segmentation_of(pipeline: Any) -> Any:
    """Who speaks when in chunks of audio: an `Inference`."""
    return pipeline._segmentation


def audio_of(pipeline: Any) -> Any:
    """Makes samples of a file, at the rate and in the one channel that its networks hear."""
    return pipeline._audio


def embedding_of(pipeline: Any) -> Any:
    """What a voice sounds like: called with samples and masks, it has a `dimension`."""
    return pipeline._embedding


def put_embedding(pipeline: Any, embedding: Any) -> None:
    """Use another one, a `BaseInference`."""
    pipeline._embedding = embedding


# The network in a `PyannoteAudioPretrainedSpeakerEmbedding`. None of it is documented. When it changes, embeddings are
# computed as pyannote.audio does, which takes several times as long.


def network_of(embedding: Any) -> Any:
    """None of what is no such embedding."""
    return getattr(embedding, "model_", None)


def is_in_two_halves(network: Any) -> bool:
    """Whether it is one such as WeSpeaker's, whose first half knows nothing of masks."""
    return hasattr(network, "forward_frames") and hasattr(network, "forward_embedding")


def frames_of(network: Any, waveforms: Tensor) -> Tensor:
    """The first half: (batch, 1, samples) to (batch, …, frames)."""
    frames: Tensor = network.forward_frames(waveforms)
    return frames


def voices_of(network: Any, frames: Tensor, masks: Tensor) -> Tensor:
    """The second half: (batch, …, frames) and masks (batch, frames), to (batch, dimension)."""
    voices: Tensor = network.forward_embedding(frames, weights=masks)
    return voices
