"""The commands of the serving install, as the entry points of the group `dragoman.commands` name them."""

from __future__ import annotations

from dragoman_service.cli.models import ModelsCommand
from dragoman_service.cli.serve import ServeCommand
from dragoman_service.cli.translate import TranslateCommand

serve = ServeCommand()
translate = TranslateCommand()
models = ModelsCommand()
