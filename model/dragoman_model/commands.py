"""The commands of the training install, as the entry points of the group `dragoman.commands` name them."""

from __future__ import annotations

from dragoman_model.data_command import DataCommand
from dragoman_model.evaluate_command import EvaluateCommand
from dragoman_model.runs_command import RunsCommand
from dragoman_model.synthetic_command import BackTranslateCommand, DistillCommand
from dragoman_model.train_command import TrainCommand

data = DataCommand()
train = TrainCommand()
evaluate = EvaluateCommand()
runs = RunsCommand()
distill = DistillCommand()
back_translate = BackTranslateCommand()
