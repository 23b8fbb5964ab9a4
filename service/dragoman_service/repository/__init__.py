"""Versions of models, on disk and in service, and their rollout. Imports `runtime` and the packages below it.

Begin with `rollout`, which follows a repository. `versions` decides which versions should serve; `registry` has those
that do.
"""
