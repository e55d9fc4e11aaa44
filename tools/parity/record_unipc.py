"""Records diffusers' UniPC on Karras' noise levels with a toy model (tanh(0.7 x) + 0.1), for test/inference/unipc.test.ts.

    python tools/parity/record_unipc.py models/pocket/sdxl/scheduler/scheduler_config.json test/fixtures/unipc-karras.json
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import UniPCMultistepScheduler

START = [0.5, -1.2, 2.0, 0.1]

config = {key: value for key, value in json.loads(Path(sys.argv[1]).read_text()).items() if not key.startswith("_")}
runs = []
for steps in (6, 15, 25):
    scheduler = UniPCMultistepScheduler.from_config(config, use_karras_sigmas=True)
    scheduler.set_timesteps(steps)
    sample, latents = torch.tensor([START]), []
    for timestep in scheduler.timesteps:
        sample = scheduler.step(torch.tanh(0.7 * sample) + 0.1, timestep, sample, return_dict=False)[0]
        latents.append(sample[0].tolist())
    runs.append({"steps": steps, "timesteps": scheduler.timesteps.tolist(), "sigmas": scheduler.sigmas.tolist(), "start": START, "latents": latents})
Path(sys.argv[2]).write_text("[\n" + ",\n".join(json.dumps(run) for run in runs) + "\n]\n")
