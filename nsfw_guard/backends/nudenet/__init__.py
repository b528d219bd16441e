"""NudeNet: body parts as regions."""
