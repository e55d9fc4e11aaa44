#!/usr/bin/env python3
"""Records what diffusers' solvers do on Wan's own noise levels, which its released schedulers no longer use.

    python tools/parity/record_flow_schedules.py > test/fixtures/flow-schedules.json

The levels are those of Wan2.1's wan/utils/fm_solvers_unipc.py and fm_solvers.py; the steps are diffusers'. The model is
the closed form 0.3·x + 0.1·sin(3·x + t/1000), taken as the velocity.
"""

import json

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

def shifted(u, shift):
    return shift * u / (1 + (shift - 1) * u)

def levels(name: str, steps: int, shift: float):
    first = 0.999 if name == "unipc" else 1.0
    return shifted(np.linspace(first, 0, steps + 1)[:-1], shift)

def run(name: str, steps: int, shift: float) -> dict:
    kind = UniPCMultistepScheduler if name == "unipc" else DPMSolverMultistepScheduler
    scheduler = kind(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, final_sigmas_type="zero")
    scheduler.set_timesteps(steps)
    sigmas = levels(name, steps, shift)

    timesteps = (sigmas * 1000).astype(np.int64)
    scheduler.sigmas = torch.from_numpy(np.append(sigmas, 0).astype(np.float32))
    scheduler.timesteps = torch.from_numpy(timesteps)
    sample = torch.linspace(-1.5, 1.5, 12)[None]
    after = []
    for i, t in enumerate(scheduler.timesteps):
        # repeated timesteps exist: count steps, never look them up
        scheduler._step_index = i
        output = 0.3 * sample + 0.1 * torch.sin(3 * sample + t / 1000)
        sample = scheduler.step(output, t, sample).prev_sample
        after.append(sample[0].tolist())
    return {"scheduler": name, "steps": steps, "shift": shift, "timesteps": timesteps.tolist(), "sigmas": scheduler.sigmas.tolist(), "first": after[0], "second": after[1], "last": after[-1]}

print(json.dumps([run(name, steps, shift) for name in ("unipc", "dpmpp_2m") for steps, shift in ((4, 5.0), (25, 5.0), (25, 8.0), (50, 3.0))], indent=None).replace("}, {", "},\n{"))
