"""NudeNet: parts of bodies as regions."""
