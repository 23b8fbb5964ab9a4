"""NVIDIA Riva's translation service. Begin with `servicer`."""
