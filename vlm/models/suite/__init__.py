"""Models of the temporal tasks of Video Mamba Suite (arXiv 2403.09626) on the shared blocks; the mixer is one word of each config."""
