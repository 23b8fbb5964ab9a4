"""Turns texts into requests to an engine, and its answers into texts. Imports `repository` and the packages below it.

Begin with `frontend`, which processes a call to one model. `prepare` has the pure functions that it uses, and
`engine_port` connects it to the engines. `dispatch` finds the models for the texts of a call.
"""
