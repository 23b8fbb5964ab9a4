"""The scheduler as it was before its batch became arrays, kept to compare with: see `tests/engine/test_oracle.py`."""
