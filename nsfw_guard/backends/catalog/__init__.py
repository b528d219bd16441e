"""The records of models that come with their facts."""
