"""LibreTranslate's interface (HTTP)."""
