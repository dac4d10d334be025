"""What a measurement was made on."""

import os
import platform
from typing import Any

import torch


def describe_machine(device: str) -> dict[str, Any]:
    """Processor, cores, threads, what else the machine did in the last minute, and torch's version; JSON-ready."""
    on_gpu = device.startswith("cuda")
    return {
        "processor": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
    }
