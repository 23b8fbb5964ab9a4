"""Google Cloud Translation v3. Begin with `servicer`."""
