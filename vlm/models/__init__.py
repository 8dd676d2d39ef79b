"""Models over an encoder's frames and words: the temporal adapter, the cross-modal interaction, and what is read off it."""
