"""whisper-embedded: a Whisper of a few million parameters."""
