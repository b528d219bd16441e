"""Installs the package nsfw_guard where it is missing, and nothing else: what the host has stays as it is."""

import sys

import launch

# Without --no-deps, pip could exchange the host's own torch or numpy.
NEEDED = {"timm": "timm", "safetensors": "safetensors", "huggingface_hub": "huggingface-hub", "tqdm": "tqdm"}
if sys.version_info < (3, 11):
    NEEDED["tomli"] = "tomli"

for module, package in {"nsfw_guard": "nsfw-guard", **NEEDED}.items():
    if not launch.is_installed(module) and not launch.is_installed(package):
        launch.run_pip(f"install --no-deps {package}", package)
