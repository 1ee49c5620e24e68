"""chat-embedded: a small Qwen2-Audio that answers questions about synthetic speech, and repairs listed names."""
