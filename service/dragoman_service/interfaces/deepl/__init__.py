"""DeepL's interface, v2 (HTTP)."""
