"""How `models/diarization-embedded` is made: a network that counts speakers, one that knows voices, and a pipeline."""
