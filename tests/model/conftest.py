from __future__ import annotations

import torch

torch.set_num_threads(1)  # these models are so small that handing work to a second thread costs more than it saves
