"""Versions of models: on disk, in service, and on their way in and out. Imports runtime and what lies below it.

Begin with `rollout`, which follows a repository; `versions` decides what should serve, `registry` knows what does.
"""
