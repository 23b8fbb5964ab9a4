"""The commands of the serving install, as the entry points of the group `dragoman.commands` name them."""

from __future__ import annotations

from dragoman_service.models_command import ModelsCommand
from dragoman_service.serve_command import ServeCommand
from dragoman_service.translate_command import TranslateCommand

serve = ServeCommand()
translate = TranslateCommand()
models = ModelsCommand()
