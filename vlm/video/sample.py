"""Which frames of a video are looked at: sampling policies as pure functions over its presentation timestamps."""
