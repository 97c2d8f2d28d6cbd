"""The decoders need torch, what torch itself requires, and nothing else."""

import re
import subprocess
import sys
from importlib import metadata

# Refuses every module that is not built in, torch, segkit or named on the command line.
BLOCKED = """
import importlib.abc, sys

allowed = {"torch", "torchgen", "functorch", "segkit", *sys.stdlib_module_names, *sys.argv[1:]}
refused = set()

class Wall(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and not top.startswith(("_", "sitecustomize", "usercustomize")):
            refused.add(top)
            raise ModuleNotFoundError(f"{top} is out of reach", name=top)
        return None

def no_network(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise OSError("no network")

for name in [n for n in sys.modules if n.partition(".")[0] not in allowed and n[0] != "_"]:
    del sys.modules[name]  # what .pth files of the environment have loaded at start
sys.meta_path.insert(0, Wall())
sys.addaudithook(no_network)

for name in "numpy torchvision pydantic yaml albumentations cv2 timm PIL".split():
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} got through")

import torch
from segkit.registry import find, names

maps = [torch.rand(1, 4, 8, 8), torch.rand(1, 8, 4, 4)]
for name in names("decoder"):
    options = {"fcn": {"stride": 2}, "unpool": {"mode": "bed_of_nails"}}.get(name, {})
    assert find("decoder", name)([4, 8], [2, 4], 3, **options)(maps).shape == (1, 3, 16, 16)
print("done", *sorted(names("decoder")))
"""


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_torch_requires() -> set[str]:
    """The top-level modules of what torch's own metadata declares as required."""
    declared = [line for line in metadata.requires("torch") or [] if "extra ==" not in line]
    names = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in declared}
    return {
        file.parts[0].removesuffix(".py")
        for package in metadata.distributions()
        if package.metadata["Name"].lower().replace("_", "-") in names
        for file in package.files or ()
    }


def test_the_decoders_run_with_everything_else_out_of_reach():
    required = modules_torch_requires()
    assert "typing_extensions" in required
    assert not required & {"numpy", "torchvision", "pydantic", "yaml", "cv2", "timm", "PIL"}
    parts = "deeplabv3 deeplabv3plus dpt fcn fpn interpolate linknet manet pan pspnet segformer"
    assert f"done {parts} transposed unet unetplusplus unpool upernet" in python(BLOCKED, *required)
