"""Guards for diffusers pipelines: diffusers lives here and nowhere else."""
