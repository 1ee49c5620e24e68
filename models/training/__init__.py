"""How the embedded checkpoints are made: one corpus, one training loop, one recipe for each of them."""
